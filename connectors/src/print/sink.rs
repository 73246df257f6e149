//! Stages the text of an epoch and prints it at commit.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use qanat_executor_core::receipt::RowHasher;
use qanat_proto::control::CommitPermit;
use qanat_proto::error::{Code, Error, Place, Result};
use qanat_proto::ids::{Epoch, JobId, SubtaskId, Token};
use qanat_proto::manifest::{PreparedHandle, SinkChannel};
use qanat_proto::names::{Name, Origin};
use qanat_proto::receipt::RowSum;
use qanat_storage::crash_safe;
use qanat_storage::env::{Env, OpenMode};
use serde::{Deserialize, Serialize};

use super::text::write_rows;
use super::{Stream, show};
use crate::contract::{CommitScope, Sink, SinkWriter};
use crate::encode::conform::refuse_nulls;

/// Text of one subtask and epoch that rides in the manifest.
pub const INLINE_BYTES_MAX: usize = 256 << 10;

/// Hidden folder of longer texts, in the working folder. It goes when it is empty.
const STAGED: &str = ".qanat-print";

/// Handles this process has printed: the last few hundred epochs of a handful of tables.
static PRINTED: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());
const PRINTED_MAX: usize = 4_096;

pub(super) struct PrintSink {
    env: Env,
    staged: PathBuf,
    table: String,
    columns: SchemaRef,
    prefix: String,
    stream: Stream,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Detail {
    Text(String),
    File(Name),
}

impl PrintSink {
    pub(super) fn new(env: Env, base: &Path, table: &str, columns: SchemaRef, prefix: String, stream: Stream) -> Self {
        Self { env, staged: base.join(STAGED), table: table.to_owned(), columns, prefix, stream }
    }

    fn text_of(&self, handle: &PreparedHandle) -> Result<Option<Vec<u8>>> {
        let detail: Detail = serde_json::from_value(handle.detail.clone()).map_err(|e| {
            Error::new(Code::UnknownVersion, format!("handle {} is not one of a print table: {e}", handle.name))
        })?;
        match detail {
            Detail::Text(text) => Ok(Some(text.into_bytes())),
            Detail::File(name) => read_if_there(&self.env, &self.staged.join(name.as_str())),
        }
    }
}

impl Sink for PrintSink {
    fn writer(&self, subtask: SubtaskId, token: Token) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(PrintWriter {
            env: self.env.clone(),
            staged: self.staged.clone(),
            table: self.table.clone(),
            columns: Arc::clone(&self.columns),
            prefix: self.prefix.clone(),
            subtask,
            token,
            text: Vec::new(),
            sum: RowSum::default(),
            hasher: RowHasher::default(),
        }))
    }

    fn commit(&self, _operator: CommitScope, permit: &CommitPermit, handles: &[PreparedHandle]) -> Result<()> {
        for handle in handles {
            if !permit.handles.contains(handle) {
                return Err(Error::new(Code::Invariant, format!("the permit does not name {}", handle.name)));
            }
            if printed().contains(&handle.name) {
                continue;
            }
            // A file that is gone was printed by a process that died right after.
            if let Some(text) = self.text_of(handle)? {
                match show(self.stream, &text) {
                    // A commit that never succeeds would hang the job; whoever runs it looks at the flag.
                    Err(e) if e.kind() == ErrorKind::BrokenPipe => super::IS_CLOSED.store(true, Ordering::Release),
                    shown => shown.map_err(|e| Error::io("print rows", &e))?,
                }
            }
            let mut printed = printed();
            if printed.len() >= PRINTED_MAX {
                printed.pop_front();
            }
            printed.push_back(handle.name.clone());
            drop(printed);
            remove_staged(&self.env, &self.staged, &handle.name)?;
        }
        Ok(())
    }

    fn abort_lower(&self, operator: CommitScope, token: Token, keep: &[PreparedHandle]) -> Result<()> {
        let entries = match self.env.disk.list(&self.staged) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(Error::io(format!("list {}", self.staged.display()), &e)),
        };
        for entry in entries {
            let Some(name) = entry.path.file_name().and_then(|n| n.to_str()) else { continue };
            let is_lower = Origin::parse_object(name).is_some_and(|(origin, _)| {
                origin.token.job == token.job
                    && origin.token.generation < token.generation
                    && origin.subtask.operator == operator.operator
            });
            if is_lower && !keep.iter().any(|handle| handle.name == name) {
                remove_staged(&self.env, &self.staged, name)?;
            }
        }
        Ok(())
    }

    fn newest_commit(&self, _operator: CommitScope, _job: JobId) -> Result<Option<Epoch>> {
        // What was printed is gone.
        Ok(None)
    }
}

fn printed() -> std::sync::MutexGuard<'static, VecDeque<String>> {
    PRINTED.lock().unwrap_or_else(PoisonError::into_inner)
}

struct PrintWriter {
    env: Env,
    staged: PathBuf,
    table: String,
    columns: SchemaRef,
    prefix: String,
    subtask: SubtaskId,
    token: Token,
    text: Vec<u8>,
    sum: RowSum,
    hasher: RowHasher,
}

impl SinkWriter for PrintWriter {
    fn write(&mut self, _epoch: Epoch, rows: &RecordBatch) -> Result<()> {
        refuse_nulls(&self.table, &self.columns, rows.columns())?;
        write_rows(rows, &self.prefix, &mut self.text).map_err(|e| e.or_at(|| Place::Named(self.table.clone())))?;
        self.sum.add(self.hasher.sum(rows)?);
        Ok(())
    }

    fn prepare(&mut self, epoch: Epoch) -> Result<Vec<PreparedHandle>> {
        if self.sum.rows == 0 {
            return Ok(Vec::new());
        }
        // One handle per epoch: the sequence need not count.
        let name = Origin { token: self.token, epoch, subtask: self.subtask }.object(0);
        let text = std::mem::take(&mut self.text);
        let detail = if text.len() <= INLINE_BYTES_MAX {
            let text = String::from_utf8(text).map_err(|_| Error::internal("printed text is not UTF-8"))?;
            Detail::Text(text)
        } else {
            crash_safe::create_folder(self.env.disk.as_ref(), &self.staged)?;
            crash_safe::write_new(&self.env, &self.staged.join(&name), &text)?;
            Detail::File(Name::new(&name)?)
        };
        let detail = serde_json::to_value(detail).map_err(|e| Error::internal(format!("write a handle: {e}")))?;
        let sum = std::mem::take(&mut self.sum);
        Ok(vec![PreparedHandle { subtask: self.subtask, channel: SinkChannel::Table, name, sum, detail }])
    }
}

fn read_if_there(env: &Env, path: &Path) -> Result<Option<Vec<u8>>> {
    let io = |e: &std::io::Error| Error::io(format!("read {}", path.display()), e);
    let file = match env.disk.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io(&e)),
    };
    let length = usize::try_from(file.len().map_err(|e| io(&e))?).unwrap_or(0);
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0).map_err(|e| io(&e))?;
    Ok(Some(bytes))
}

/// Removes a staged text if there is one, and the folder with the last.
fn remove_staged(env: &Env, folder: &Path, name: &str) -> Result<()> {
    let path = folder.join(name);
    match env.disk.remove_file(&path) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io(format!("remove {}", path.display()), &e)),
    }
    // It may hold other texts.
    let _ = env.disk.remove_dir(folder);
    Ok(())
}
