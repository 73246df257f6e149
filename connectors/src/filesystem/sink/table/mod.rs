//! A table kept by its primary key: the latest row of each, in buckets by key group.
//!
//! ```text
//! <path>/.staged/<object>.csv      a bucket written anew by one subtask, hidden, durable at `prepare`
//! <path>/_data/part-<object>.csv    published by `commit`, never replaced, never changed
//! <path>/_table/<number>           written after them: the version that names the files of all buckets
//! <path>/_commits/…/<epoch>.json   written last, as for every file sink
//! ```
//! Of a plain file `dir/top.csv` all this lies in `dir/.top.csv/`, and a commit puts a copy of its one bucket in its place.
//!
//! Must never happen: a version that names a file which is not whole; a version replaced; a file removed that the newest
//! version names, or one that a rollback may go back to.

mod changes;
pub(super) mod commit;
mod expire;
mod plain;
#[cfg(test)]
mod tests;
pub(super) mod withdraw;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use qanat_proto::error::{Code, Error, Result};
use qanat_proto::ids::{JobId, OperatorId};

use super::{COMMITS, FileTable};
use crate::filesystem::committed::{list, records_that_count};
use crate::filesystem::version::{BucketFile, TableVersion, newest_version};

pub(super) use expire::Kept as KeptVersions;
pub(super) use writer::TableWriter;

/// How a table is kept.
#[derive(Clone, Debug)]
pub(super) struct KeptTable {
    /// Columns of the primary key.
    pub(super) key: Vec<usize>,
    pub(super) names: Vec<String>,
    pub(super) buckets: u16,
    pub(super) retention_ms: i64,
    /// The one file that shows the table.
    pub(super) plain: Option<PathBuf>,
}

/// What an epoch made of a table.
#[derive(Default)]
pub(super) struct Made {
    pub(super) buckets: Vec<BucketFile>,
    /// The versions that the generations of their writers went on from.
    pub(super) bases: BTreeSet<u64>,
    /// The table begins anew, without the rows that are there.
    pub(super) begins: bool,
}

/// What a generation goes on from.
pub(super) struct Start {
    /// The version; 0 if there is none.
    number: u64,
    files: BTreeMap<u16, BucketFile>,
    /// The job has committed nothing yet.
    begins: bool,
}

impl Start {
    /// The table as it is. A job that overwrites begins with none of its rows.
    ///
    /// # Errors
    /// E0114 if the table that is there has other columns, another key or another form; E0216 for a plain file that is
    /// none, and for other files in its folder; E0203 for a plain file that is a folder.
    pub(super) fn of(table: &FileTable, kept: &KeptTable, (job, operator): (JobId, OperatorId)) -> Result<Self> {
        let disk = table.env.disk.as_ref();
        let newest = newest_version(disk, &table.root)?;
        let begins = records_that_count(disk, &table.root, &job.to_string(), &operator.to_string())?.is_empty();
        if let Some(path) = &kept.plain
            && disk.metadata(path).is_ok_and(|entry| entry.is_dir)
        {
            let message =
                format!("`{}` is a folder, and a path that ends like a file name is one file", path.display());
            return Err(Error::new(Code::BadOption, message).hint("let the path end with `/` for a folder of files"));
        }
        let Some(version) = newest else {
            if begins && !is_known(table, job)? {
                refuse_others(table, kept)?;
            }
            return Ok(Self { number: 0, files: BTreeMap::new(), begins });
        };
        if begins && table.overwrite {
            return Ok(Self { number: version.number, files: BTreeMap::new(), begins });
        }
        fits(table, kept, &version)?;
        let files = version.files.into_iter().map(|file| (file.bucket, file)).collect();
        Ok(Self { number: version.number, files, begins })
    }
}

/// Whether the job has written here before, withdrawn or not.
fn is_known(table: &FileTable, job: JobId) -> Result<bool> {
    let path = table.root.join(COMMITS).join(job.to_string());
    table.env.disk.exists(&path).map_err(|e| Error::io(format!("look at {}", path.display()), &e))
}

/// # Errors
/// E0216 for what stands where a table is to begin.
fn refuse_others(table: &FileTable, kept: &KeptTable) -> Result<()> {
    let disk = table.env.disk.as_ref();
    let refused = |message: String, hint: &str| Err(Error::new(Code::SinkConflict, message).hint(hint));
    match &kept.plain {
        Some(path) if !table.overwrite => {
            if disk.exists(path).map_err(|e| Error::io(format!("look at {}", path.display()), &e))? {
                let message = format!("`{}` is there, and no table that is kept in it", path.display());
                return refused(message, "INSERT OVERWRITE replaces it; or write to another path");
            }
        }
        Some(_) => {}
        None => {
            let entries = list(disk, &table.root)?;
            let is_seen = |name: &str| !name.starts_with(['.', '_']);
            let mut names = entries.iter().filter_map(|entry| entry.path.file_name()?.to_str());
            if let Some(name) = names.find(|name| is_seen(name)) {
                let message = format!("`{name}` lies in {}, where no table is kept so far", table.root.display());
                return refused(
                    message,
                    "readers of the table would not see it: keep the table in a folder of its own",
                );
            }
        }
    }
    Ok(())
}

/// # Errors
/// E0114 for a version that this table cannot go on from.
fn fits(table: &FileTable, kept: &KeptTable, version: &TableVersion) -> Result<()> {
    let differs = if version.columns.fields() != table.columns.fields() {
        "other columns".to_owned()
    } else if version.primary_key != kept.names {
        format!("the primary key ({})", version.primary_key.join(", "))
    } else if version.encoding != table.spec {
        "another format, or other options of it".to_owned()
    } else if version.buckets != kept.buckets {
        format!("{} buckets, and this job has {} key groups", version.buckets, kept.buckets)
    } else {
        return Ok(());
    };
    let message = format!("the table in {} has {differs}", table.root.display());
    Err(Error::new(Code::SinkSchema, message).hint(
        "declare it as it was written (its buckets are `pipeline.max-parallelism`), replace it by INSERT OVERWRITE, or \
         write to another folder",
    ))
}
