//! Merging state files, so that a table never lists many, at a cost that does not follow its size.
//!
//! A merge takes the newest files of a table: as many as are needed, and older ones while they are not
//! larger than twice what is merged already. So a large old file is rewritten only when what came since
//! has grown to its order, each row is rewritten a logarithmic number of times, and an epoch pays for
//! its changes. A merge that reaches the oldest file drops dead rows and deletes; any other keeps the
//! deletes, which older files still need.
//!
//! What a merge makes is a *run*: several files, which hold no key in common. Each has a slice of the key groups, or a part of it
//! where one key group is larger. So a merge has the rows of one file in memory, however large the table is. Where files
//! are counted, a run counts as one.
//!
//! A [`Compaction`] holds no lock and no table: it runs in the background, and [`super::Table::replace`]
//! takes its result at a later barrier. The files it replaces stay until no manifest names them (P14).

use arrow::array::RecordBatch;
use qanat_proto::error::Result;
use qanat_proto::ids::KeyGroupRange;
use qanat_proto::limits::STATE_FILES_PER_TABLE_MAX;
use qanat_proto::manifest::StateFile;

use super::TableSpec;
use super::file::{SectionKind, StateBytes};
use super::restore::{Fold, intersect, is_empty};
use super::snapshot;
use super::table::batch_bytes;
use crate::checkpoint::StateWriter;

/// A merge that is worth doing.
#[derive(Clone, Debug)]
pub struct Compaction {
    pub(super) spec: TableSpec,
    pub(super) range: KeyGroupRange,
    /// What is merged, oldest first.
    pub(super) files: Vec<StateFile>,
    /// Whether the oldest file of the table is among them.
    pub(super) reaches_oldest: bool,
}

/// What a merge made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// The entries that the new files stand for. An object alone would not do: after a rescale a table may
    /// list one object several times, for different key groups.
    pub(super) replaced: Vec<StateFile>,
    /// By key groups. None: nothing in them was alive.
    pub(super) files: Vec<StateFile>,
    pub(super) reaches_oldest: bool,
}

/// Oldest first: the number of files of each run. Files that hold no key group in common are a run, too, whoever made
/// them.
pub(super) fn runs(files: &[StateFile]) -> Vec<usize> {
    let mut runs: Vec<usize> = Vec::new();
    let mut start = 0;
    for (at, file) in files.iter().enumerate() {
        let of_run = files.get(start..at).unwrap_or_default();
        let is_apart = || of_run.iter().all(|other| is_empty(intersect(other.key_groups, file.key_groups)));
        match runs.last_mut() {
            Some(count) if file.continues || is_apart() => *count += 1,
            _ => {
                runs.push(1);
                start = at;
            }
        }
    }
    runs
}

/// How many of the newest files to merge; 0 for none.
pub(super) fn choose(files: &[StateFile], mostly_dead: bool) -> usize {
    let runs = runs(files);
    if mostly_dead && runs.len() > 1 {
        return files.len();
    }
    // One more than is needed, so that the next epoch does not need a merge again.
    let needed = match runs.len().checked_sub(STATE_FILES_PER_TABLE_MAX) {
        None | Some(0) => return 0,
        Some(excess) => (excess + 2).min(runs.len()),
    };
    let (mut merged, mut first) = (0_u64, files.len());
    for (count, run) in runs.iter().rev().enumerate() {
        let bytes = files.get(first - run..first).unwrap_or_default().iter().map(|file| file.bytes).sum::<u64>();
        if count >= needed && bytes > merged.saturating_mul(2) {
            break;
        }
        merged = merged.saturating_add(bytes);
        first -= run;
    }
    files.len() - first
}

impl Compaction {
    /// The table whose files are merged.
    pub fn table(&self) -> &str {
        &self.spec.name
    }

    /// Whether `table` still lists all that is merged. What has died meanwhile may be collected, and the
    /// merge may fail for want of it.
    pub fn is_wanted(&self, table: &super::Table) -> bool {
        self.files.iter().all(|file| table.files().contains(file))
    }

    /// Reads the files and writes what they come to, with about `slice_bytes` of it in memory.
    ///
    /// # Errors
    /// E0301 for a damaged file, and what the store says when it cannot write. The table is as before.
    pub fn run(&self, source: &dyn StateBytes, writer: &mut StateWriter<'_>, slice_bytes: u64) -> Result<Compacted> {
        let fold = Fold::open(source, &self.spec, &self.files, self.range)?;
        let mut files = Vec::new();
        for slice in fold.slices(slice_bytes) {
            let mut part =
                Part { closed: if self.reaches_oldest { Vec::new() } else { fold.closed(slice) }, ..Part::default() };
            fold.run(slice, !self.reaches_oldest, &mut |kind, rows| {
                if part.bytes >= slice_bytes {
                    self.write(&mut part, slice, writer, &mut files)?;
                }
                part.bytes += batch_bytes(&rows) as u64;
                match kind {
                    SectionKind::Upserts => part.upserts.push(rows),
                    SectionKind::Deletes => part.deletes.push(rows),
                }
                Ok(())
            })?;
            self.write(&mut part, slice, writer, &mut files)?;
        }
        Ok(Compacted { replaced: self.files.clone(), files, reaches_oldest: self.reaches_oldest })
    }
    /// Writes what was gathered of a slice, if that is anything.
    fn write(
        &self,
        part: &mut Part,
        slice: KeyGroupRange,
        writer: &mut StateWriter<'_>,
        files: &mut Vec<StateFile>,
    ) -> Result<()> {
        // The closed time goes into each file: it is the same for all.
        let Part { upserts, deletes, closed, .. } = std::mem::replace(
            part,
            Part { closed: part.closed.clone(), is_written: part.is_written, ..Part::default() },
        );
        if upserts.is_empty() && deletes.is_empty() && (closed.is_empty() || part.is_written) {
            return Ok(());
        }
        part.is_written = true;
        let mut file =
            writer.write(slice, |object| snapshot::encode(&self.spec, object, slice, &upserts, &deletes, closed))?;
        // Its place among the files of the table is that of the newest one in it.
        file.epoch = self.files.last().map_or(file.epoch, |newest| newest.epoch);
        file.continues = !files.is_empty();
        files.push(file);
        Ok(())
    }
}

/// Rows of a slice that become one file.
#[derive(Default)]
struct Part {
    upserts: Vec<RecordBatch>,
    deletes: Vec<RecordBatch>,
    closed: Vec<(KeyGroupRange, i64)>,
    bytes: u64,
    /// A file of the slice was written.
    is_written: bool,
}
