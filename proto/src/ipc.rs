//! Arrow's messages from outside: what stands between them and the arrow crate, which believes every length in a message
//! and panics at numbers that it would not have written itself.
//!
//! An allocation that fails ends the whole process, so lengths are held against the bytes that are there before the
//! crate sees them. A panic is caught where it happens and is an error of the message; it says nothing on stderr.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::{CompressionType, RecordBatch as Batch, root_as_message};

/// What stands before the length of a message, since version 0.15 of the format.
const CONTINUATION: [u8; 4] = [0xff; 4];
/// The most bytes of one buffer: more cannot be reached with the offsets of 32 bits that tables have.
const BUFFER_BYTES_MAX: u64 = i32::MAX as u64;
/// The most that a byte of LZ4 stands for.
const LZ4_RATIO_MAX: u64 = 255;
/// Of zstd: a block of 128 KiB that repeats one byte has four.
const ZSTD_RATIO_MAX: u64 = 32 << 10;
/// A compressed buffer begins with its length.
const PREFIX: usize = 8;

thread_local! {
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// What `act` gives, or the text of its panic. What it worked on is to be thrown away then.
///
/// # Errors
/// The text.
pub fn caught<T>(act: impl FnOnce() -> T) -> Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let loud = take_hook();
        set_hook(Box::new(move |panic| {
            if !IS_CAUGHT.get() {
                loud(panic);
            }
        }));
    });
    let before = IS_CAUGHT.replace(true);
    let result = catch_unwind(AssertUnwindSafe(act));
    IS_CAUGHT.set(before);
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        text.unwrap_or("its buffers lie elsewhere").to_owned()
    })
}

/// Lets the arrow crate work on a message.
///
/// # Errors
/// What it says, or the text of its panic.
pub fn guarded<T>(act: impl FnOnce() -> Result<T, ArrowError>) -> Result<T, ArrowError> {
    caught(act).unwrap_or_else(|panic| Err(ArrowError::ParseError(panic)))
}

/// Refuses a batch whose columns cannot lie in its body.
///
/// # Errors
/// What is impossible.
pub fn check(batch: Batch<'_>, body: &[u8]) -> Result<(), ArrowError> {
    if batch.nodes().is_some_and(|nodes| !nodes.is_empty() && nodes.get(0).length() != batch.length()) {
        return Err(damaged("a batch and its first column are of other lengths"));
    }
    for buffer in batch.buffers().into_iter().flatten() {
        let range = usize::try_from(buffer.offset()).ok().zip(usize::try_from(buffer.length()).ok());
        let bytes = range.and_then(|(at, length)| body.get(at..at.checked_add(length)?));
        let bytes = bytes.ok_or_else(|| impossible("a column"))?;
        let Some(compression) = batch.compression() else { continue };
        let ratio = if compression.codec() == CompressionType::ZSTD { ZSTD_RATIO_MAX } else { LZ4_RATIO_MAX };
        let most = (bytes.len() as u64).saturating_mul(ratio).min(BUFFER_BYTES_MAX);
        // A negative length says that it is not compressed.
        let length = bytes.first_chunk::<PREFIX>().map_or(0, |prefix| i64::from_le_bytes(*prefix));
        if u64::try_from(length).is_ok_and(|length| length > most) {
            return Err(impossible("a column"));
        }
    }
    Ok(())
}

/// Refuses messages one behind the other that are not as long as they say. An early end is left to whoever decodes them.
///
/// # Errors
/// What is impossible.
pub fn check_all(bytes: &[u8]) -> Result<(), ArrowError> {
    let mut rest = bytes;
    while let Some((mut head, mut after)) = rest.split_first_chunk::<4>() {
        if *head == CONTINUATION {
            (head, after) = after.split_first_chunk().ok_or_else(|| impossible("a message"))?;
        }
        let length = i32::from_le_bytes(*head);
        if length == 0 {
            break;
        }
        let metadata = usize::try_from(length).ok().and_then(|length| after.split_at_checked(length));
        let (metadata, after) = metadata.ok_or_else(|| impossible("a message"))?;
        let message = root_as_message(metadata).map_err(|e| damaged(&format!("a message: {e}")))?;
        let body = usize::try_from(message.bodyLength()).ok().and_then(|length| after.split_at_checked(length));
        let (body, after) = body.ok_or_else(|| impossible("a message"))?;
        let dictionary = message.header_as_dictionary_batch();
        if let Some(batch) = message.header_as_record_batch().or_else(|| dictionary?.data()) {
            check(batch, body)?;
        }
        rest = after;
    }
    Ok(())
}

/// The batches of a whole stream, schema and all.
///
/// # Errors
/// If it is none.
pub fn batches(bytes: &[u8]) -> Result<Vec<RecordBatch>, ArrowError> {
    check_all(bytes)?;
    guarded(|| StreamReader::try_new(bytes, None)?.collect())
}

/// The schema that a message tells of: of its metadata alone.
///
/// # Errors
/// If it tells of none.
pub fn schema(metadata: &[u8]) -> Result<Schema, ArrowError> {
    let message = root_as_message(metadata).map_err(|e| damaged(&format!("a message: {e}")))?;
    let schema = message.header_as_schema().ok_or_else(|| damaged("a message has no schema"))?;
    guarded(|| Ok(fb_to_schema(schema)))
}

fn impossible(what: &str) -> ArrowError {
    damaged(&format!("{what} has an impossible length"))
}

fn damaged(text: &str) -> ArrowError {
    ArrowError::ParseError(text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};

    use super::*;

    fn stream(compression: Option<CompressionType>) -> (RecordBatch, Vec<u8>) {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..40));
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..40).map(|n| format!("text {}", n % 7))));
        let rows = RecordBatch::try_from_iter([("n", numbers), ("s", texts)]).expect("columns of one length");
        let options = IpcWriteOptions::default().try_with_compression(compression).expect("options");
        let mut writer = StreamWriter::try_new_with_options(Vec::new(), rows.schema_ref(), options).expect("a writer");
        writer.write(&rows).expect("rows");
        (rows, writer.into_inner().expect("an end"))
    }

    #[test]
    fn a_panic_is_an_error() {
        assert_eq!(caught(|| 3).expect("no panic"), 3);
        let error = caught(|| assert_eq!(1, 2, "offset")).expect_err("a panic");
        assert!(error.contains("offset"), "{error}");
        assert!(!IS_CAUGHT.get());
    }

    /// The process would end at the first length that is believed: it has not as much memory.
    #[test]
    fn no_length_in_a_stream_is_believed() {
        for compression in [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)] {
            let (rows, whole) = stream(compression);
            assert_eq!(batches(&whole).expect("whole"), [rows]);
            let mut refused = 0;
            for at in (0..whole.len() - 8).step_by(4) {
                for length in [1_i64 << 45, i64::MAX, i64::from(i32::MAX), -2, i64::from(u32::MAX)] {
                    let mut bytes = whole.clone();
                    bytes[at..at + 8].copy_from_slice(&length.to_le_bytes());
                    refused += usize::from(batches(&bytes).is_err());
                }
            }
            assert!(refused > 100, "{compression:?}: {refused}");
        }
    }

    /// `cargo fuzz` found it: the first four bytes are the length that is asked for.
    #[test]
    fn a_few_bytes_ask_for_no_gigabyte() {
        assert!(batches(b"row-7 and what else stands there").is_err());
        assert!(batches(b"\xff\xff\xff\xff\x00\x00\x00\x70").is_err());
        assert!(batches(b"").is_err());
    }

    #[test]
    fn every_cut_of_a_stream_gives_its_rows_or_an_error() {
        let (rows, whole) = stream(None);
        for length in 0..whole.len() {
            if let Ok(found) = batches(&whole[..length]) {
                assert!(found.is_empty() || found == [rows.clone()], "cut at {length}");
            }
        }
    }
}
