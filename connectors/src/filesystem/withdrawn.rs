//! Epochs that a rollback took back, as readers of a folder see them: by their tombstones.
//!
//! ```text
//! <path>/_withdrawn/<job>/<operator>/<first>-<last>.json   outranks the commit records of these epochs
//! <path>/_withdrawn/<job>/<operator>/part-<object>.csv      what was published or staged in them
//! ```

use std::path::Path;

use qanat_proto::EpochRanges;
use qanat_proto::error::Result;
use qanat_proto::ids::Epoch;
use qanat_proto::manifest::PreparedHandle;
use qanat_storage::env::Disk;

use super::committed::{list, read_record, record_paths};
use super::sink::HandleDetail;
use crate::contract::MadeVisible;

/// Folder of what was withdrawn.
pub(crate) const WITHDRAWN: &str = "_withdrawn";

/// The withdrawn epochs of one operator of a job, whose ids are given as the folders of its records are named.
///
/// # Errors
/// The code of the disk.
pub(super) fn withdrawn_epochs(disk: &dyn Disk, root: &Path, job: &str, operator: &str) -> Result<EpochRanges> {
    let tombstones = list(disk, &root.join(WITHDRAWN).join(job).join(operator))?;
    Ok(tombstones.iter().filter_map(|entry| epochs_of(&entry.path)).collect())
}

pub(crate) fn tombstone_name(first: Epoch, last: Epoch) -> String {
    format!("{first}-{last}.json")
}

fn epochs_of(path: &Path) -> Option<(Epoch, Epoch)> {
    let (first, last) = path.file_name()?.to_str()?.strip_suffix(".json")?.split_once('-')?;
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if is_number { text.parse().ok().map(Epoch) } else { None }
    };
    Some((number(first)?, number(last)?))
}

/// What an operator published in the epochs after one: what a rollback to it would take back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Published {
    /// Paths of files, relative to the table's folder.
    pub(crate) paths: Vec<String>,
    /// An epoch whose record is gone: what it published is not known.
    pub(crate) lost: Option<Epoch>,
}

/// # Errors
/// E0301 for a damaged record, the code of the disk otherwise.
pub(crate) fn published_after(disk: &dyn Disk, folder: &Path, rows: MadeVisible) -> Result<Published> {
    let MadeVisible { job, operator, after } = rows;
    let mut published = Published::default();
    let own = operator.to_string();
    let mut before: Option<Epoch> = None;
    for path in record_paths(disk, folder, Some(job))? {
        let is_own = path.parent().and_then(Path::file_name).is_some_and(|name| name == own.as_str());
        let Some(epoch) = super::sink::record_epoch(&path).filter(|_| is_own) else { continue };
        if epoch <= after {
            before = Some(epoch);
            continue;
        }
        let Some(record) = read_record(disk, &path)? else {
            published.lost.get_or_insert(epoch);
            continue;
        };
        if record.previous != before {
            published.lost = published.lost.or_else(|| record.previous.filter(|previous| *previous > after));
        }
        before = Some(epoch);
        published.paths.extend(record.files.into_iter().map(|file| file.path));
    }
    Ok(published)
}

/// The final path of what a file sink prepared; None for what is no file.
pub fn path_of(handle: &PreparedHandle) -> Option<String> {
    match serde_json::from_value(handle.detail.clone()) {
        Ok(HandleDetail::File { path, .. } | HandleDetail::Bucket { path, .. }) => Some(path),
        Ok(HandleDetail::Overwrite { .. } | HandleDetail::EmptyTable { .. } | HandleDetail::Watermark { .. }) => None,
        Err(_) => None,
    }
}
