//! Arrow IPC, as a file (`ARROW1`, read from any batch) or as a stream (read in order, may be
//! compressed). A position is a batch, a row in it, and the row of the whole.

use std::io::{BufReader, Read as _};

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReader, StreamReader};
use qanat_proto::error::Result;
use qanat_proto::limits::RECORD_BYTES_MAX;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::columnar::{Layout, corrupt};
use super::guard::guarded;
use super::reader::{Chunk, DecodeRequest, FormatReader, Read};
use super::stream::{Compression, DiskReader, FileInput};
use crate::contract::StopFlag;

/// How an IPC file begins; a stream does not.
const FILE_MAGIC: &[u8] = b"ARROW1";

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

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>;

/// Opens a file of either kind.
pub(super) fn open(input: &FileInput, position: Position, request: DecodeRequest) -> Result<Box<dyn FormatReader>> {
    let damaged = |e: ArrowError| corrupt(input, &e);
    let is_file = input.compression == Compression::None && {
        let mut magic = [0; 6];
        let file = input.open()?;
        let n = file.read_at(&mut magic, 0).map_err(|e| input.io_error("read", &e))?;
        magic.get(..n) == Some(FILE_MAGIC)
    };
    let batch = usize::try_from(position.batch).unwrap_or(usize::MAX);
    let (batches, layout): (Batches, Layout) = if is_file {
        let file = || Ok::<_, qanat_proto::Error>(BufReader::new(DiskReader::new(input.open()?)));
        let open = |columns| {
            let file = file()?;
            guarded(|| FileReader::try_new(file, columns)).and_then(|opened| opened).map_err(damaged)
        };
        let layout = Layout::new(&open(None)?.schema(), &request)?;
        let mut reader = open(Some(layout.read.clone()))?;
        if batch < reader.num_batches() {
            reader.set_index(batch).map_err(damaged)?;
            (Box::new(reader), layout)
        } else {
            (Box::new(std::iter::empty()), layout)
        }
    } else {
        check_stream(input)?;
        let schema = StreamReader::try_new(input.reader()?, None).map_err(damaged)?.schema();
        let layout = Layout::new(&schema, &request)?;
        let reader = StreamReader::try_new(input.reader()?, Some(layout.read.clone())).map_err(damaged)?;
        (Box::new(reader.skip(batch)), layout)
    };
    let batch_rows = request.batch_rows.max(1);
    Ok(Box::new(ArrowReader { input: input.clone(), batches, layout, position, current: None, batch_rows }))
}

/// E0208 for what is no Arrow stream: its reader would believe any four bytes to be a length, and
/// allocate as much.
fn check_stream(input: &FileInput) -> Result<()> {
    let mut head = [0; 8];
    input.reader()?.read_exact(&mut head).map_err(|e| corrupt(input, &e))?;
    let [0xff, 0xff, 0xff, 0xff, length @ ..] = head else {
        let error = ArrowError::ParseError("it does not begin like an Arrow stream or file".to_owned());
        return Err(corrupt(input, &error));
    };
    if usize::try_from(i32::from_le_bytes(length)).is_ok_and(|length| length <= RECORD_BYTES_MAX) {
        return Ok(());
    }
    Err(corrupt(input, &ArrowError::ParseError("its schema has an impossible length".to_owned())))
}

struct ArrowReader {
    input: FileInput,
    batches: Batches,
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
                None => match guarded(|| self.batches.next().transpose()).and_then(|next| next) {
                    Ok(None) => return Ok(Read::End),
                    Ok(Some(batch)) => batch,
                    Err(e) => return Err(corrupt(&self.input, &e)),
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
