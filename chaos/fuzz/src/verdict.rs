//! What a target makes of an input, and checks that several targets share.

use arrow::array::{Array, RecordBatch};
use qanat_proto::{Code, Error};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Whether a decoder took an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    Refused,
}

impl Verdict {
    pub fn of(is_accepted: bool) -> Self {
        if is_accepted { Self::Accepted } else { Self::Refused }
    }
}

/// A refusal in good order: with one of these codes, and words.
///
/// # Panics
/// If it is another one.
pub fn refused(error: &Error, codes: &[Code]) -> Verdict {
    assert!(codes.contains(&error.code()), "an error that this decoder does not give: {error:?}");
    assert!(!error.message().is_empty(), "an error without words: {error:?}");
    Verdict::Refused
}

/// A value that is JSON outside. What is read is written and read again to the same.
///
/// # Panics
/// If it is not.
pub fn json<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let read: T = serde_json::from_slice(bytes).ok()?;
    let written = serde_json::to_vec(&read).expect("what was read can be written");
    let again: T = serde_json::from_slice(&written).unwrap_or_else(|e| panic!("what was written is refused: {e}"));
    // As values: maps without an order are written in any.
    let (read, again) = (serde_json::to_value(&read), serde_json::to_value(&again));
    assert_eq!(read.expect("written before"), again.expect("written before"), "read, written and read again");
    Some(serde_json::from_slice(bytes).expect("read before"))
}

/// Rows that every operator can work on: columns of their length, whose offsets, texts and indexes hold.
///
/// # Panics
/// If they do not.
pub fn sound(rows: &RecordBatch) {
    for (field, column) in rows.schema_ref().fields().iter().zip(rows.columns()) {
        assert_eq!(column.len(), rows.num_rows(), "`{}`", field.name());
        if let Err(error) = column.to_data().validate_full() {
            panic!("column `{}` is not sound: {error}", field.name());
        }
        assert!(field.is_nullable() || column.null_count() == 0, "`{}` has no NULL", field.name());
    }
}
