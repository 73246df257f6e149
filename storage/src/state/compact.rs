//! Merging state files, so that a table never lists many, at a cost that does not follow its size.
//!
//! A merge takes the newest files of a table: as many as are needed, and older ones while they are not
//! larger than twice what is merged already. So a large old file is rewritten only when what came since
//! has grown to its order, each row is rewritten a logarithmic number of times, and an epoch pays for
//! its changes. A merge that reaches the oldest file drops dead rows and deletes; any other keeps the
//! deletes, which older files still need.
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
use super::restore::Fold;
use super::snapshot;
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
    /// The entries that the new file stands for. An object alone would not do: after a rescale a table may
    /// list one object several times, for different key groups.
    pub(super) replaced: Vec<StateFile>,
    /// None: nothing in them was alive.
    pub(super) file: Option<StateFile>,
    pub(super) reaches_oldest: bool,
}

/// How many of the newest files to merge; 0 for none.
pub(super) fn choose(files: &[StateFile], mostly_dead: bool) -> usize {
    if mostly_dead && files.len() > 1 {
        return files.len();
    }
    // One more than is needed, so that the next epoch does not need a merge again.
    let needed = match files.len().checked_sub(STATE_FILES_PER_TABLE_MAX) {
        None | Some(0) => return 0,
        Some(excess) => (excess + 2).min(files.len()),
    };
    let mut merged = 0_u64;
    files
        .iter()
        .rev()
        .enumerate()
        .take_while(|(count, file)| {
            let take = *count < needed || file.bytes <= merged.saturating_mul(2);
            merged = merged.saturating_add(file.bytes);
            take
        })
        .count()
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

    /// Reads the files and writes what they come to.
    ///
    /// # Errors
    /// E0301 for a damaged file, and what the store says when it cannot write. The table is as before.
    pub fn run(&self, source: &dyn StateBytes, writer: &mut StateWriter<'_>) -> Result<Compacted> {
        let fold = Fold::open(source, &self.spec, &self.files, self.range)?;
        let (mut upserts, mut deletes): (Vec<RecordBatch>, Vec<RecordBatch>) = Default::default();
        fold.run(!self.reaches_oldest, &mut |kind, rows| {
            match kind {
                SectionKind::Upserts => upserts.push(rows),
                SectionKind::Deletes => deletes.push(rows),
            }
            Ok(())
        })?;
        let closed = if self.reaches_oldest { Vec::new() } else { fold.closed() };
        drop(fold);
        let is_empty = upserts.is_empty() && deletes.is_empty() && closed.is_empty();
        let file = if is_empty {
            None
        } else {
            let mut file = writer.write(self.range, |object| {
                snapshot::encode(&self.spec, object, self.range, &upserts, &deletes, closed)
            })?;
            // Its place among the files of the table is that of the newest one in it.
            file.epoch = self.files.last().map_or(file.epoch, |newest| newest.epoch);
            Some(file)
        };
        Ok(Compacted { replaced: self.files.clone(), file, reaches_oldest: self.reaches_oldest })
    }
}
