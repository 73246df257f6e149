//! Arrow IPC, as a file (`ARROW1`, read from any batch) or as a stream (read in order, may be
//! compressed). A position is a batch, a row in it, and the row of the whole.

mod messages;

use arrow::array::RecordBatch;
use qanat_proto::error::Result;
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::messages::{FILE_MAGIC, Messages};
use super::columnar::Layout;
use super::guard::guarded;
use super::reader::{Chunk, DecodeRequest, FormatReader, Read};
use super::stream::{Compression, DiskReader, FileInput};
use crate::contract::StopFlag;

/// Where a file stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Batches before the one to go on in.
    pub batch: u64,
    /// Rows of that batch that are done.
    pub skip: u64,
    /// Rows of the file that are done.
    pub row: u64,
}

/// Opens a file of either kind.
pub(super) fn open(input: &FileInput, position: Position, request: DecodeRequest) -> Result<Box<dyn FormatReader>> {
    let messages = if is_file(input)? {
        let file = DiskReader::new(input.open()?);
        guarded(input, || Messages::of_file(file))?
    } else {
        let stream = input.reader()?;
        guarded(input, || Messages::of_stream(stream))?
    };
    let layout = Layout::new(messages.schema(), &request)?;
    let mut messages = messages.project(layout.read.clone());
    guarded(input, || messages.skip(usize::try_from(position.batch).unwrap_or(usize::MAX)))?;
    let batch_rows = request.batch_rows.max(1);
    Ok(Box::new(ArrowReader { input: input.clone(), messages, layout, position, current: None, batch_rows }))
}

fn is_file(input: &FileInput) -> Result<bool> {
    if input.compression != Compression::None {
        return Ok(false);
    }
    let mut magic = [0; FILE_MAGIC.len()];
    let n = input.open()?.read_at(&mut magic, 0).map_err(|e| input.io_error("read", &e))?;
    Ok(magic.get(..n) == Some(FILE_MAGIC))
}

struct ArrowReader {
    input: FileInput,
    messages: Messages,
    layout: Layout,
    position: Position,
    /// The batch that `position` is in.
    current: Option<RecordBatch>,
    batch_rows: usize,
}

impl FormatReader for ArrowReader {
    fn next(&mut self, stop: &StopFlag) -> Result<Read> {
        loop {
            if stop.is_set() {
                return Ok(Read::Pending);
            }
            let batch = match self.current.take() {
                Some(batch) => batch,
                None => match guarded(&self.input, || self.messages.next())? {
                    None => return Ok(Read::End),
                    Some(batch) => batch,
                },
            };
            let skip = usize::try_from(self.position.skip).unwrap_or(usize::MAX).min(batch.num_rows());
            let count = (batch.num_rows() - skip).min(self.batch_rows);
            let first = self.position.row;
            let slice = batch.slice(skip, count);
            self.position.row += count as u64;
            if skip + count < batch.num_rows() {
                self.position.skip += count as u64;
                self.current = Some(batch);
            } else {
                self.position.batch += 1;
                self.position.skip = 0;
            }
            if count == 0 {
                continue;
            }
            let (rows, bad) = self.layout.rows(&slice).map_err(|e| e.or_at(|| self.input.place()))?;
            return Ok(Read::Chunk(Chunk {
                hidden: None,
                rows,
                first,
                records: count as u64,
                bad,
                bytes: slice.get_array_memory_size() as u64,
                position: json!(self.position),
            }));
        }
    }
}
