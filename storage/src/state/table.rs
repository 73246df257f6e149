//! One state table of one subtask: the list of its live files, and what is done with them.
//!
//! The executor's checkpoint writer holds a [`Table`] per table of each operator. After a barrier it
//! calls [`Table::write`] with the delta and reports [`Table::files`]; from time to time it runs
//! [`Table::compaction`] in the background. A restore makes the tables from the manifest, for the key
//! groups the subtask owns now, and reads their rows.

use arrow::array::RecordBatch;
use qanat_proto::error::{Error, Result};
use qanat_proto::ids::KeyGroupRange;
use qanat_proto::limits::BATCH_ROWS;
use qanat_proto::manifest::StateFile;

use super::compact::{self, Compacted, Compaction};
use super::file::StateBytes;
use super::restore::{Fold, intersect, is_empty};
use super::{TableDelta, TableSpec, snapshot};
use crate::checkpoint::StateWriter;

/// The live files of a table, for the key groups of one subtask.
#[derive(Clone, Debug)]
pub struct Table {
    spec: TableSpec,
    range: KeyGroupRange,
    /// Oldest first. Each entry's key groups lie in `range`.
    files: Vec<StateFile>,
    closed: Option<i64>,
    /// Rows known to be dead: deletes and what they delete.
    dead_rows: u64,
}

impl Table {
    /// A table without rows.
    pub fn new(spec: TableSpec, range: KeyGroupRange) -> Self {
        Self { spec, range, files: Vec::new(), closed: None, dead_rows: 0 }
    }

    /// A table as a manifest lists it, cut to the key groups of `range`. From now on the files count for
    /// these groups only: the other groups have other owners, whose versions must not be mixed in.
    pub fn restored(spec: TableSpec, range: KeyGroupRange, files: &[StateFile]) -> Self {
        let mut narrowed: Vec<StateFile> = Vec::new();
        for file in files {
            let key_groups = intersect(file.key_groups, range);
            match narrowed.last_mut() {
                _ if is_empty(key_groups) => {}
                // Entries of former owners that stand side by side are one entry of the new owner.
                Some(last) if last.object == file.object && last.key_groups.end == key_groups.start => {
                    last.key_groups.end = key_groups.end;
                }
                _ => narrowed.push(StateFile { key_groups, ..file.clone() }),
            }
        }
        Self { files: narrowed, ..Self::new(spec, range) }
    }

    pub fn spec(&self) -> &TableSpec {
        &self.spec
    }

    /// The live files, oldest first: what the subtask reports at a barrier.
    pub fn files(&self) -> &[StateFile] {
        &self.files
    }

    /// Passes on all rows of the table's key groups, in batches, in no particular order (an append-only
    /// table: in the order they were written). Only files and sections that hold such rows are read, and
    /// nothing is passed on from bytes whose checksum does not hold.
    ///
    /// # Errors
    /// E0301 if a file is missing or damaged, E0307 if its version or shape is unknown; what was passed
    /// on before is to be thrown away. And what `each` returns.
    pub fn read(&mut self, source: &dyn StateBytes, each: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        let fold = Fold::open(source, &self.spec, &self.files, self.range)?;
        fold.run(false, &mut |_, rows| each(rows))?;
        let closed = fold.closed();
        let covered: u32 = closed.iter().map(|(groups, _)| u32::from(groups.end - groups.start)).sum();
        if covered == u32::from(self.range.end.saturating_sub(self.range.start)) {
            self.closed = self.closed.max(closed.iter().map(|(_, time)| *time).min());
        }
        Ok(())
    }

    /// Makes the changes of an epoch durable: one new file, or none if nothing changed.
    ///
    /// # Errors
    /// E0502 for rows of key groups that the subtask does not own, E0503 for rows of another shape, and
    /// what the store says. The list is as before then.
    pub fn write(&mut self, delta: &TableDelta, writer: &mut StateWriter<'_>) -> Result<()> {
        if delta.table != self.spec.name {
            return Err(Error::internal(format!("changes of `{}` given to table `{}`", delta.table, self.spec.name)));
        }
        if self.spec.append_only && delta.deletes.iter().any(|batch| batch.num_rows() > 0) {
            return Err(Error::internal(format!("rows of append-only state table `{}` are deleted", self.spec.name)));
        }
        let delta_closed = delta.closed.filter(|_| self.spec.time_column.is_some());
        let closed = self.closed.max(delta_closed);
        // Dead files go from the oldest on. One with live older files stays: its deletes and its newer,
        // dead versions of rows still cover what those hold.
        let dead = self.files.iter().take_while(|file| file.expires_after.is_some_and(|time| Some(time) <= closed));
        let kept = self.files.get(dead.count()..).unwrap_or_default().to_vec();
        let rows_of = |batches: &[RecordBatch]| batches.iter().map(|b| b.num_rows() as u64).sum::<u64>();
        let (upserts, deletes) = (rows_of(&delta.upserts), rows_of(&delta.deletes));
        // The closed time alone is worth a file only if older ones may hold rows that it kills.
        let is_news = upserts > 0 || (!kept.is_empty() && (deletes > 0 || closed > self.closed));
        let mut files = kept;
        if is_news {
            let object = writer.next_object();
            let encoded = snapshot::encode_delta(&self.spec, &object, self.range, delta, closed)?;
            if encoded.rows > 0 || !files.is_empty() {
                files.push(writer.write(self.range, |_| Ok(encoded))?);
            }
        }
        self.files = files;
        self.closed = closed;
        self.dead_rows += 2 * deletes;
        Ok(())
    }

    /// The merge that is due, if any.
    pub fn compaction(&self) -> Option<Compaction> {
        let rows: u64 = self.files.iter().map(|file| file.rows).sum();
        let mostly_dead = rows > BATCH_ROWS as u64 && self.dead_rows * 2 > rows;
        let count = compact::choose(&self.files, mostly_dead);
        let first = self.files.len() - count;
        (count > 0).then(|| Compaction {
            spec: self.spec.clone(),
            range: self.range,
            files: self.files.get(first..).unwrap_or_default().to_vec(),
            reaches_oldest: first == 0,
        })
    }

    /// Puts the result of a merge in the place of what it merged. Files written since stay behind it. If
    /// all that it merged has died meanwhile, so has the result.
    pub fn replace(&mut self, compacted: Compacted) {
        let is_replaced = |file: &StateFile| compacted.replaced.contains(file);
        let Some(position) = self.files.iter().position(is_replaced) else { return };
        self.files.retain(|file| !is_replaced(file));
        if let Some(file) = compacted.file {
            self.files.insert(position, file);
        }
        if compacted.reaches_oldest {
            self.dead_rows = 0;
        }
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
pub(crate) mod tests;
