//! The file sink: rows become files of a folder, each exactly once.
//!
//! ```text
//! <path>/.staged/<object>.csv             written by one subtask, hidden, durable at `prepare`
//! <path>/part-<object>.csv                published by `commit`, never replaced, never changed
//! <path>/carrier=AA/part-<object>.csv     the same under `PARTITIONED BY (carrier)`
//! <path>/_commits/<job>/<operator>/<epoch>.json   written last: the consistent cut (P3)
//! <path>/_withdrawn/<job>/<operator>/              what a rollback took back, and its tombstones (P10)
//! ```
//! `<object>` is [`Origin::object`](qanat_proto::names::Origin::object), unique for ever, so that two
//! generations, two runs or two clusters in one folder never meet in a name. What is not data begins
//! with a dot or an underscore. `docs/file-sink.md` has the promises to readers.
//!
//! Called by the executor's sink task (writer, commit, abort). Must never happen: a name in the folder
//! without a dot or underscore whose rows are not claimed (I2); a published file replaced or changed; a
//! removal of anything but staged names of lower generations (P6) or the fixed list of an
//! `INSERT OVERWRITE` or a rollback. Tests: `tests.rs` here (every crash point), `crate::suite::sink`.

mod announce;
mod commit;
mod folder;
pub(super) mod options;
mod overwrite;
mod partition;
#[cfg(test)]
mod partition_tests;
mod staged;
mod table;
#[cfg(test)]
mod tests;
mod withdraw;
#[cfg(test)]
mod withdraw_tests;
mod writer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arrow::datatypes::{Schema, SchemaRef};
use qanat_proto::connector::TableDescriptor;
use qanat_proto::control::{CommitPermit, Withdrawal};
use qanat_proto::error::{Code, Error, Place, Result};
use qanat_proto::graph::SinkNode;
use qanat_proto::ids::{Epoch, JobId, OperatorId, SubtaskId, Token};
use qanat_proto::manifest::PreparedHandle;
use qanat_proto::names::Origin;
use qanat_proto::receipt::RowHash;
use qanat_storage::crash_safe;
use qanat_storage::env::{Env, thread};
use serde::{Deserialize, Serialize};

use crate::contract::{CommitScope, Sink, SinkWriter};
use crate::encode::{EncodeSpec, kinds};
use crate::filesystem::reread::Written;
use crate::filesystem::version::{VERSIONS, is_table};

pub(crate) use commit::record_epoch;
use options::{Keeps, TableOptions};
pub use options::{SINK_OPTIONS, SinkOptions};
pub use overwrite::Removal;
pub(crate) use partition::parse_folder;
pub(super) use table::withdraw::keeps;
use table::{KeptTable, KeptVersions, Start, TableWriter};

/// Hidden folder of staged files, inside the target folder so that publishing stays within one file system.
pub(crate) const STAGED: &str = ".staged";
/// Folder of commit records.
pub(crate) const COMMITS: &str = "_commits";

/// One table's folder, opened for writing by one generation.
pub struct FileSink {
    table: Arc<FileTable>,
    /// The newest epoch this sink has recorded, so that a commit need not list all records.
    recorded: Mutex<BTreeMap<(JobId, OperatorId), Epoch>>,
    /// Partitions to be announced.
    pending: Mutex<BTreeMap<(JobId, OperatorId), announce::Pending>>,
    /// Partitions whose old files are gone.
    overwritten: Mutex<BTreeMap<(JobId, OperatorId), overwrite::Overwritten>>,
    /// Of a table that is kept by its key.
    versions: KeptVersions,
}

/// The checked table, shared by the sink and its writers.
pub(crate) struct FileTable {
    env: Env,
    root: PathBuf,
    name: String,
    /// All columns of the table, partition columns included.
    columns: SchemaRef,
    /// The columns that stand inside the files: as in Flink, partition columns do not.
    file_columns: Vec<usize>,
    partition_columns: Vec<usize>,
    partition_names: Vec<String>,
    spec: EncodeSpec,
    options: SinkOptions,
    overwrite: bool,
    /// The folder of the one partition that an overwrite names, which is emptied whether it gets rows or not.
    emptied: Option<String>,
    /// The table is kept by its key.
    kept: Option<KeptTable>,
}

/// What a handle of this sink carries in `detail`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum HandleDetail {
    /// A bucket of a table, written anew. Before `File`, which has fewer fields.
    Bucket {
        bucket: u16,
        /// Rows of the file; the handle's sum is that of the changes which were taken.
        rows: u64,
        hash: RowHash,
        /// The version of the table that its writer's generation went on from; 0 for none.
        base: u64,
        path: String,
        staged: String,
        bytes: u64,
        crc32c: u32,
    },
    EmptyTable {
        /// A job that overwrites begins with an empty table in the place of this version.
        empty_table: u64,
    },
    File {
        /// Final path, relative to the table's folder, with `/` between segments.
        path: String,
        /// Staged name inside the staging folder.
        staged: String,
        bytes: u64,
        crc32c: u32,
    },
    Overwrite {
        /// The files that `INSERT OVERWRITE` takes away, fixed before the first epoch was claimed (P10).
        overwrite: Vec<overwrite::Removal>,
    },
    Watermark {
        /// How far event time has come in one subtask, ms: what partitions wait for.
        /// None: the subtask is idle.
        watermark: Option<i64>,
    },
}

impl FileSink {
    /// Opens the folder of `table` (its `path` resolved against `base`). No IO.
    ///
    /// # Errors
    /// The codes of [`check`].
    pub fn open(env: Env, base: &Path, table: &TableDescriptor, overwrite: bool) -> Result<Arc<Self>> {
        Self::open_node(env, base, &SinkNode { overwrite, ..SinkNode::of_table(table.clone()) })
    }

    /// The same for a whole node.
    ///
    /// # Errors
    /// The codes of [`check`].
    pub fn open_node(env: Env, base: &Path, node: &SinkNode) -> Result<Arc<Self>> {
        let mut table = FileTable::of(env, base, node)?;
        if node.overwrite && !node.partition.is_empty() {
            table.emptied = Some(partition::folder_of(&node.table, &node.partition)?);
        }
        Ok(Arc::new(Self {
            table: Arc::new(table),
            recorded: Mutex::default(),
            pending: Mutex::default(),
            overwritten: Mutex::default(),
            versions: KeptVersions::default(),
        }))
    }
}

/// The folder of a sink table.
pub(crate) fn folder_of(base: &Path, table: &TableDescriptor) -> Result<PathBuf> {
    let (options, _, _) = check(table)?;
    Ok(root_of(&base.join(folder::local_path(&options.path)?), &options.keeps))
}

/// The path of a sink table as readers know it: its folder, or its one plain file.
pub(crate) fn path_of(base: &Path, table: &TableDescriptor) -> Result<PathBuf> {
    let (options, _, _) = check(table)?;
    Ok(base.join(folder::local_path(&options.path)?))
}

/// What lies beside a plain file is hidden.
fn root_of(path: &Path, keeps: &Keeps) -> PathBuf {
    match keeps {
        Keeps::Table(TableOptions { is_plain: true, .. }) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            folder::parent(path).join(format!(".{name}"))
        }
        Keeps::Rows | Keeps::Log | Keeps::Table(_) => path.to_owned(),
    }
}

impl FileTable {
    /// Checks options and columns of a table as a sink, with no IO. Unknown options are the caller's to
    /// refuse.
    ///
    /// # Errors
    /// E0203 to E0205 for options, E0217 for a column that the format cannot hold, E0102 for what is not
    /// supported yet.
    pub(crate) fn of(env: Env, base: &Path, node: &SinkNode) -> Result<Self> {
        let SinkNode { table, overwrite, .. } = node;
        let (options, spec, partition_columns) = check(table)?;
        let columns = match options.keeps {
            Keeps::Log => kinds::with_column(&table.physical),
            Keeps::Rows | Keeps::Table(_) => Arc::clone(&table.physical),
        };
        let path = base.join(folder::local_path(&options.path)?);
        let kept = match (&options.keeps, node.buckets) {
            (Keeps::Table(TableOptions { retention_ms, is_plain }), Some(buckets)) => Some(KeptTable {
                key: table.primary_key.iter().filter_map(|name| table.physical.index_of(name).ok()).collect(),
                names: table.primary_key.clone(),
                buckets,
                retention_ms: *retention_ms,
                plain: is_plain.then(|| path.clone()),
            }),
            (Keeps::Table(_), None) => {
                return Err(Error::internal("a table that is kept by its key has no number of buckets"));
            }
            (Keeps::Rows | Keeps::Log, _) => None,
        };
        Ok(Self {
            env,
            root: root_of(&path, &options.keeps),
            name: table.name.clone(),
            file_columns: (0..columns.fields().len()).filter(|i| !partition_columns.contains(i)).collect(),
            columns,
            partition_names: table.partitioned_by.clone(),
            partition_columns,
            spec,
            options,
            overwrite: *overwrite,
            emptied: None,
            kept,
        })
    }

    fn written(&self) -> Written<'_> {
        Written { encoding: &self.spec, columns: &self.columns, partitioned_by: &self.partition_names }
    }

    fn file_schema(&self) -> SchemaRef {
        project(&self.columns, &self.file_columns)
    }

    fn staged_folder(&self) -> PathBuf {
        self.root.join(STAGED)
    }

    fn records_folder(&self, job: JobId, operator: OperatorId) -> PathBuf {
        self.root.join(COMMITS).join(job.to_string()).join(operator.to_string())
    }
}

fn detail_json(detail: &HandleDetail) -> Result<serde_json::Value> {
    serde_json::to_value(detail).map_err(|e| Error::internal(format!("write a handle: {e}")))
}

fn project(columns: &SchemaRef, chosen: &[usize]) -> SchemaRef {
    Arc::new(Schema::new(chosen.iter().filter_map(|i| columns.fields().get(*i).cloned()).collect::<Vec<_>>()))
}

/// Checks options and columns of a table as a sink, with no IO. Unknown options are the caller's to refuse.
///
/// # Errors
/// E0203 to E0205 for options, E0217 for a column that the format cannot hold, E0102 for what is not
/// supported yet.
pub(crate) fn check(table: &TableDescriptor) -> Result<(SinkOptions, EncodeSpec, Vec<usize>)> {
    let place = || Place::Named(table.name.clone());
    let options = SinkOptions::of_table(table)?;
    let spec = EncodeSpec::of_table(table).map_err(|e| e.or_at(place))?;
    let partition_columns = partition::columns_of(table)?;
    let kept: Vec<usize> = (0..table.physical.fields().len()).filter(|i| !partition_columns.contains(i)).collect();
    if kept.is_empty() {
        return Err(
            Error::new(Code::BadOption, "every column is a partition column: none is left for the files").at(place())
        );
    }
    spec.check_columns(&project(&table.physical, &kept)).map_err(|e| e.or_at(place))?;
    if options.keeps == Keeps::Log && table.physical.index_of(kinds::ROW_KIND).is_ok() {
        let message = format!("`{}` is the column of a log of changes that says what a row does", kinds::ROW_KIND);
        return Err(Error::new(Code::BadOption, message).at(place()).hint("give the table's column another name"));
    }
    Ok((options, spec, partition_columns))
}

impl Sink for FileSink {
    fn writer(&self, subtask: SubtaskId, token: Token) -> Result<Box<dyn SinkWriter>> {
        let table = &self.table;
        folder::create_root(&table.env, &table.root)?;
        folder::create_synced(&table.env, &table.staged_folder())?;
        if let Some(kept) = &table.kept {
            // Told now rather than with the first rows, when it is asked once more.
            Start::of(table, kept, (token.job, subtask.operator))?;
            return Ok(Box::new(TableWriter::new(table.clone(), kept.clone(), subtask, token)));
        }
        if is_table(table.env.disk.as_ref(), &table.root)? {
            let message = format!("a table is kept by its key in {}", table.root.display());
            return Err(Error::new(Code::SinkConflict, message)
                .at(Place::Named(table.name.clone()))
                .hint("declare it with 'sink.changelog' = 'table', or write to another folder"));
        }
        let removals = if table.overwrite && subtask.index == 0 {
            Some(overwrite::list(&table.env, &table.root, token.job, !table.partition_names.is_empty())?)
        } else {
            None
        };
        Ok(Box::new(writer::FileWriter::new(table.clone(), subtask, token, removals)))
    }

    fn commit(&self, operator: CommitScope, permit: &CommitPermit, handles: &[PreparedHandle]) -> Result<()> {
        commit::commit(self, operator, permit, handles)
    }

    fn abort_lower(&self, operator: CommitScope, token: Token, keep: &[PreparedHandle]) -> Result<()> {
        let table = &self.table;
        let is_lower = |name: &str| {
            Origin::parse_object(name).is_some_and(|(origin, _)| {
                origin.may_be_aborted_by(token) && origin.subtask.operator == operator.operator
            })
        };
        let is_kept = |name: &str| {
            let object = name.split('.').next().unwrap_or(name);
            keep.iter().any(|handle| handle.name == object)
        };
        folder::remove_where(&table.env, &table.staged_folder(), |name| is_lower(name) && !is_kept(name))?;
        if table.kept.is_some() {
            for folder in [table.root.clone(), table.root.join(VERSIONS)] {
                if table.env.disk.exists(&folder).map_err(|e| Error::io(format!("look at {}", folder.display()), &e))? {
                    crash_safe::sweep(table.env.disk.as_ref(), &folder)?;
                }
            }
        }
        // A commit that died between writing its record and linking it leaves a hidden file.
        commit::sweep_drafts(table, &table.records_folder(token.job, operator.operator), token)
    }

    fn withdraw(&self, operator: CommitScope, job: JobId, withdrawal: &Withdrawal) -> Result<()> {
        if self.table.kept.is_some() && !table::withdraw::can_give_back(&self.table, operator, job, withdrawal)? {
            return Ok(());
        }
        withdraw::withdraw(&self.table, operator, job, withdrawal)?;
        if let Some(kept) = &self.table.kept {
            table::withdraw::withdraw(&self.table, kept, operator, job, withdrawal)?;
            self.versions.forget();
        }
        // What is remembered of the folder may be of withdrawn epochs.
        let key = (job, operator.operator);
        thread::lock(&self.recorded).remove(&key);
        thread::lock(&self.pending).remove(&key);
        Ok(())
    }

    fn newest_commit(&self, operator: CommitScope, job: JobId) -> Result<Option<Epoch>> {
        commit::newest_record(&self.table, job, operator.operator)
    }

    /// Commit records stay for as long as the folder does.
    fn remembers_commits(&self) -> bool {
        true
    }
}
