//! Versions that have had their time go, and with them the files that none after them has.
//!
//! Which files go stands in the version that took the place of theirs, fixed when that was written (P10). A version stays
//! for the retention, counted to the time of the newest version *before* the one that is written. A rollback is sure of half
//! of it ([`super::withdraw`]): epochs may be committed between its question and its decision.

use std::collections::BTreeMap;
use std::sync::Mutex;

use qanat_proto::error::Result;
use qanat_storage::env::thread;

use super::KeptTable;
use crate::filesystem::sink::{FileTable, commit, folder};
use crate::filesystem::version::{DATA, TableVersion, VERSIONS, versions};

/// The versions that are there, so that a commit need not read them all.
#[derive(Default)]
pub(in crate::filesystem::sink) struct Kept(Mutex<Option<BTreeMap<u64, Known>>>);

struct Known {
    written_ms: i64,
    replaced: Vec<String>,
}

impl Known {
    fn of(version: &TableVersion) -> Self {
        Self { written_ms: version.written_ms, replaced: version.replaced.clone() }
    }
}

impl Kept {
    pub(in crate::filesystem::sink) fn forget(&self) {
        *thread::lock(&self.0) = None;
    }

    /// Notes the newest version and lets go of those whose time is over.
    pub(super) fn expire(&self, table: &FileTable, kept: &KeptTable, newest: &TableVersion) -> Result<()> {
        let mut slot = thread::lock(&self.0);
        let known = match slot.as_mut() {
            Some(known) => known,
            None => {
                // What those of withdrawn epochs replaced is the table again: they do not count.
                let found = versions(table.env.disk.as_ref(), &table.root)?;
                for (number, error) in &found.damaged {
                    tracing::warn!(%error, "version {number} of {} stays, and what it replaced", table.name);
                }
                slot.insert(found.counting.iter().map(|version| (version.number, Known::of(version))).collect())
            }
        };
        known.insert(newest.number, Known::of(newest));
        let Some((_, before)) = known.range(..newest.number).next_back() else { return Ok(()) };
        let end = before.written_ms.saturating_sub(kept.retention_ms);
        let mut touched = false;
        loop {
            let mut oldest = known.iter();
            let (Some((first, _)), Some((_, next))) = (oldest.next(), oldest.next()) else { break };
            if next.written_ms > end {
                break;
            }
            let first = *first;
            // Its own list is of those before it, of which the first of all has none: what it wrote empty.
            for path in known.get(&first).into_iter().flat_map(|first| &first.replaced).chain(&next.replaced) {
                folder::remove_if_there(&table.env, &commit::inside(&table.root, path)?)?;
            }
            folder::remove_if_there(&table.env, &table.root.join(VERSIONS).join(first.to_string()))?;
            known.remove(&first);
            touched = true;
        }
        if !touched {
            return Ok(());
        }
        folder::sync(&table.env, &table.root.join(DATA))?;
        folder::sync(&table.env, &table.root.join(VERSIONS))
    }
}
