//! One state table of one subtask: the list of its live files, and what is done with them.
//!
//! The executor's checkpoint writer holds a [`Table`] per table of each operator. After a barrier it
//! calls [`Table::write`] with the delta and reports [`Table::files`]; from time to time it runs
//! [`Table::compaction`] in the background. A restore makes the tables from the manifest, for the key
//! groups the subtask owns now, and reads their rows.

use arrow::array::{Array, RecordBatch};
use qanat_proto::error::{Error, Result};
use qanat_proto::ids::KeyGroupRange;
use qanat_proto::limits::BATCH_ROWS;
use qanat_proto::manifest::StateFile;

use super::compact::{self, Compacted, Compaction};
use super::file::StateBytes;
use super::restore::{Fold, SLICE_BYTES, intersect, is_empty};
use super::{TableDelta, TableSpec, snapshot};
use crate::checkpoint::StateWriter;

/// Bytes of changes that are encoded at once: the file is in memory as a whole.
const PART_BYTES: usize = 4 << 20;

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
            if is_empty(key_groups) {
                continue;
            }
            // Entries of former owners that stand side by side are one entry of the new owner.
            let is_next = |known: &StateFile| known.object == file.object && known.key_groups.end == key_groups.start;
            match narrowed.iter_mut().rev().find(|known| is_next(known)) {
                Some(known) => known.key_groups.end = key_groups.end,
                None => narrowed.push(StateFile { key_groups, ..file.clone() }),
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

    /// Files that a row may be looked for in: those that hold no key group in common count as one.
    pub fn runs(&self) -> usize {
        compact::runs(&self.files).len()
    }

    /// Passes on all rows of the table's key groups, in batches, in no particular order (an append-only
    /// table: in the order they were written). Only files and sections that hold such rows are read, and
    /// nothing is passed on from bytes whose checksum does not hold.
    ///
    /// # Errors
    /// E0301 if a file is missing or damaged, E0307 if its version or shape is unknown; what was passed
    /// on before is to be thrown away. And what `each` returns.
    pub fn read(&mut self, source: &dyn StateBytes, each: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        self.read_in_slices(source, SLICE_BYTES, each)
    }

    fn read_in_slices(
        &mut self,
        source: &dyn StateBytes,
        slice_bytes: u64,
        each: &mut dyn FnMut(RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let fold = Fold::open(source, &self.spec, &self.files, self.range)?;
        // Rows of an append-only table come in their order, and of their keys none need be remembered.
        let slices = if self.spec.append_only { vec![self.range] } else { fold.slices(slice_bytes) };
        for slice in slices {
            fold.run(slice, false, &mut |_, rows| each(rows))?;
        }
        let closed = fold.closed(self.range);
        let covered: u32 = closed.iter().map(|(groups, _)| u32::from(groups.end - groups.start)).sum();
        if covered == u32::from(self.range.end.saturating_sub(self.range.start)) {
            self.closed = self.closed.max(closed.iter().map(|(_, time)| *time).min());
        }
        Ok(())
    }

    /// Makes changes durable: one new file, several if they are large, or none if nothing changed.
    ///
    /// # Errors
    /// E0502 for rows of key groups that the subtask does not own, E0503 for rows of another shape, and
    /// what the store says. The list is as before then.
    pub fn write(&mut self, delta: &TableDelta, writer: &mut StateWriter<'_>) -> Result<()> {
        self.write_in_parts(delta, writer, PART_BYTES)
    }

    fn write_in_parts(&mut self, delta: &TableDelta, writer: &mut StateWriter<'_>, part_bytes: usize) -> Result<()> {
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
            let mut is_first = true;
            for part in parts_of(delta, part_bytes) {
                let object = writer.next_object();
                let encoded = snapshot::encode_delta(&self.spec, &object, self.range, &part, closed)?;
                if encoded.rows > 0 || !files.is_empty() {
                    let file = writer.write(self.range, |_| Ok(encoded))?;
                    files.push(StateFile { continues: !std::mem::take(&mut is_first), ..file });
                }
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
        self.files.splice(position..position, compacted.files);
        if compacted.reaches_oldest {
            self.dead_rows = 0;
        }
    }
}

/// Changes in parts of about so many bytes, in their order: deletes first, because an upsert wins over them.
fn parts_of(delta: &TableDelta, part_bytes: usize) -> Vec<TableDelta> {
    let part = |upserts, deletes| TableDelta { table: delta.table.clone(), upserts, deletes, closed: delta.closed };
    let all: usize = delta.upserts.iter().chain(&delta.deletes).map(batch_bytes).sum();
    if all <= 2 * part_bytes {
        return vec![delta.clone()];
    }
    let mut parts = vec![part(Vec::new(), delta.deletes.clone())];
    parts.retain(|part| part.deletes.iter().any(|batch| batch.num_rows() > 0));
    let (mut upserts, mut held) = (Vec::new(), 0);
    for batch in &delta.upserts {
        let each = batch_bytes(batch) / batch.num_rows().max(1) + 1;
        let mut from = 0;
        while from < batch.num_rows() {
            let count = (part_bytes.saturating_sub(held) / each).clamp(1, batch.num_rows() - from);
            upserts.push(batch.slice(from, count));
            held += count * each;
            from += count;
            if held >= part_bytes {
                parts.push(part(std::mem::take(&mut upserts), Vec::new()));
                held = 0;
            }
        }
    }
    if !upserts.is_empty() {
        parts.push(part(upserts, Vec::new()));
    }
    parts
}

pub(super) fn batch_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum()
}

#[cfg(test)]
#[path = "table_tests.rs"]
pub(crate) mod tests;
