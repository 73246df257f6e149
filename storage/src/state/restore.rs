//! From state files back to the rows of a table: the fold.
//!
//! Files count for the key groups that their manifest entry names. Of each key the newest version wins,
//! a delete removes it, and rows that the closed time has passed are dead. The fold goes from the newest
//! file to the oldest and remembers the keys it has met, so that rows are passed on as they are read. It goes over one
//! slice of the key groups after the other, so that the keys which it remembers are those of a slice.
//!
//! Called by [`super::Table`] for restores and compaction. What must never happen: a row passed on from
//! bytes whose checksum was not verified (I7), or from a key group outside of the range (I4).

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::row::{RowConverter, SortField};
use hashbrown::HashTable;
use qanat_proto::error::{Error, Result};
use qanat_proto::ids::KeyGroupRange;
use qanat_proto::manifest::StateFile;
use xxhash_rust::xxh3::xxh3_64;

use super::TableSpec;
use super::file::{OpenFile, SectionKind, StateBytes, encode_error, group_column};

/// Bytes of files that a slice comes from, of which a restore remembers the keys.
pub const SLICE_BYTES: u64 = 32 << 20;
/// A merge writes no more files than this.
const SLICES_MAX: u64 = 64;

/// Rows that the fold passes on, by kind.
pub(super) type Visit<'a> = dyn FnMut(SectionKind, RecordBatch) -> Result<()> + 'a;

/// A fold over the files of one table, for a range of key groups.
pub(super) struct Fold<'a> {
    spec: &'a TableSpec,
    range: KeyGroupRange,
    /// Oldest first.
    files: Vec<OpenFile<'a>>,
    /// Per key group of the range: rows up to this time are dead.
    closed: Vec<i64>,
}

impl<'a> Fold<'a> {
    pub(super) fn open(
        source: &'a dyn StateBytes,
        spec: &'a TableSpec,
        files: &'a [StateFile],
        range: KeyGroupRange,
    ) -> Result<Self> {
        let mut opened = Vec::new();
        for file in files.iter().filter(|file| !is_empty(intersect(file.key_groups, range))) {
            opened.push(OpenFile::open(source, file, &spec.name)?);
        }
        let mut closed = vec![i64::MIN; usize::from(range.end.saturating_sub(range.start))];
        for file in &opened {
            for (groups, time) in &file.footer.closed {
                let groups = intersect(intersect(*groups, file.scope()), range);
                for group in groups.start..groups.end {
                    if let Some(entry) = closed.get_mut(usize::from(group - range.start)) {
                        *entry = (*entry).max(*time);
                    }
                }
            }
        }
        Ok(Self { spec, range, files: opened, closed })
    }

    /// The key groups in slices of about `slice_bytes`, or of a 64th of all there is where that is more.
    pub(super) fn slices(&self, slice_bytes: u64) -> Vec<KeyGroupRange> {
        let mut bytes = vec![0_u64; usize::from(self.range.end.saturating_sub(self.range.start))];
        for file in &self.files {
            for section in &file.footer.sections {
                let groups = intersect(intersect(section.groups, file.scope()), self.range);
                let each = section.length() / u64::from(section.groups.end - section.groups.start).max(1);
                for group in groups.start..groups.end {
                    if let Some(bytes) = bytes.get_mut(usize::from(group - self.range.start)) {
                        *bytes += each;
                    }
                }
            }
        }
        let most = slice_bytes.max(bytes.iter().sum::<u64>() / SLICES_MAX);
        let (mut slices, mut held) = (Vec::new(), 0);
        let mut start = self.range.start;
        for (group, bytes) in (self.range.start..self.range.end).zip(bytes) {
            if held > 0 && held + bytes > most {
                slices.push(KeyGroupRange { start, end: group });
                (start, held) = (group, 0);
            }
            held += bytes;
        }
        slices.push(KeyGroupRange { start, end: self.range.end });
        slices
    }

    /// The closed time of each key group of a slice, as runs of equal times.
    pub(super) fn closed(&self, slice: KeyGroupRange) -> Vec<(KeyGroupRange, i64)> {
        let mut runs: Vec<(KeyGroupRange, i64)> = Vec::new();
        for (group, time) in (self.range.start..self.range.end).zip(&self.closed) {
            if !slice.contains(group) {
                continue;
            }
            match runs.last_mut() {
                _ if *time == i64::MIN => {}
                Some((run, last)) if last == time && run.end == group => run.end = group + 1,
                _ => runs.push((KeyGroupRange { start: group, end: group + 1 }, *time)),
            }
        }
        runs
    }

    /// Passes on the live rows of a slice. With `keep_deletes`, the keys that older files may still hold too.
    pub(super) fn run(&self, slice: KeyGroupRange, keep_deletes: bool, visit: &mut Visit<'_>) -> Result<()> {
        if self.spec.append_only {
            for file in &self.files {
                self.sections(file, slice, SectionKind::Upserts, &mut |rows, in_scope| {
                    let alive = self.alive(&rows, in_scope)?;
                    pass(SectionKind::Upserts, &rows, alive, visit)
                })?;
            }
            return Ok(());
        }
        let delete_schema = self.spec.delete_schema();
        let fields = delete_schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
        let converter = RowConverter::new(fields).map_err(|e| encode_error(&e))?;
        let mut seen = KeySet::default();
        for (age, file) in self.files.iter().rev().enumerate() {
            // No older file follows the oldest: its keys need not be remembered.
            let is_oldest = age + 1 == self.files.len();
            self.sections(file, slice, SectionKind::Upserts, &mut |rows, mut newest| {
                if !(is_oldest && seen.is_empty()) {
                    let keys = keys_of(&converter, &rows, delete_schema.fields().len())?;
                    seen.keep_new(&keys, &mut newest, !is_oldest);
                }
                let alive = self.alive(&rows, newest.clone())?;
                if keep_deletes {
                    let dead = newest.iter().zip(&alive).map(|(newest, alive)| *newest && !alive).collect();
                    pass(SectionKind::Deletes, &self.spec.keys_of(&rows)?, dead, visit)?;
                }
                pass(SectionKind::Upserts, &rows, alive, visit)
            })?;
            if is_oldest && !keep_deletes {
                break;
            }
            self.sections(file, slice, SectionKind::Deletes, &mut |rows, mut newest| {
                let keys = keys_of(&converter, &rows, delete_schema.fields().len())?;
                seen.keep_new(&keys, &mut newest, true);
                if keep_deletes { pass(SectionKind::Deletes, &rows, newest, visit) } else { Ok(()) }
            })?;
        }
        Ok(())
    }

    /// Calls `each` with the rows of each section of a kind that may hold rows of the slice, and which of
    /// them do.
    fn sections(
        &self,
        file: &OpenFile<'_>,
        slice: KeyGroupRange,
        kind: SectionKind,
        each: &mut dyn FnMut(RecordBatch, Vec<bool>) -> Result<()>,
    ) -> Result<()> {
        let schema = match kind {
            SectionKind::Upserts => Arc::clone(&self.spec.schema),
            SectionKind::Deletes => self.spec.delete_schema(),
        };
        let scope = intersect(file.scope(), slice);
        for section in file.footer.sections.iter().filter(|section| section.kind == kind) {
            if is_empty(intersect(section.groups, scope)) {
                continue;
            }
            let rows = file.rows(section, &schema)?;
            let in_scope = group_column(&rows)?.iter().map(|group| scope.contains(*group)).collect();
            each(rows, in_scope)?;
        }
        Ok(())
    }

    fn alive(&self, rows: &RecordBatch, mut keep: Vec<bool>) -> Result<Vec<bool>> {
        if let Some(times) = self.spec.times(rows)? {
            for ((keep, group), time) in keep.iter_mut().zip(group_column(rows)?).zip(times) {
                let slot = group.checked_sub(self.range.start).map(usize::from);
                let closed = slot.and_then(|slot| self.closed.get(slot)).copied().unwrap_or(i64::MIN);
                *keep = *keep && *time > closed;
            }
        }
        Ok(keep)
    }
}

fn keys_of(converter: &RowConverter, rows: &RecordBatch, columns: usize) -> Result<arrow::row::Rows> {
    let columns = rows.columns().get(..columns).ok_or_else(|| Error::internal("state rows lack a key column"))?;
    converter.convert_columns(columns).map_err(|e| encode_error(&e))
}

fn pass(kind: SectionKind, rows: &RecordBatch, keep: Vec<bool>, visit: &mut Visit<'_>) -> Result<()> {
    if keep.iter().all(|keep| *keep) {
        return visit(kind, rows.clone());
    }
    if keep.iter().any(|keep| *keep) {
        let kept = filter_record_batch(rows, &BooleanArray::from(keep)).map_err(|e| encode_error(&e))?;
        return visit(kind, kept);
    }
    Ok(())
}

/// Key groups that lie in both ranges.
pub(super) fn intersect(a: KeyGroupRange, b: KeyGroupRange) -> KeyGroupRange {
    let start = a.start.max(b.start);
    KeyGroupRange { start, end: a.end.min(b.end).max(start) }
}

/// Whether a range holds no key group.
pub(super) fn is_empty(range: KeyGroupRange) -> bool {
    range.start >= range.end
}

/// Keys in one arena: no allocation per key.
#[derive(Default)]
struct KeySet {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    table: HashTable<usize>,
}

impl KeySet {
    fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Clears `keep` where a key was met before; remembers the others.
    fn keep_new(&mut self, keys: &arrow::row::Rows, keep: &mut [bool], remember: bool) {
        for (key, keep) in keys.iter().zip(keep) {
            if *keep {
                *keep = self.insert(key.as_ref(), remember);
            }
        }
    }

    /// Whether the key is new.
    fn insert(&mut self, key: &[u8], remember: bool) -> bool {
        let hash = xxh3_64(key);
        let Self { bytes, ends, table } = self;
        let key_at = |index: usize| {
            let start = index.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
            ends.get(index).and_then(|end| bytes.get(start..*end)).unwrap_or_default()
        };
        if table.find(hash, |index| key_at(*index) == key).is_some() {
            return false;
        }
        if remember {
            table.insert_unique(hash, ends.len(), |index| xxh3_64(key_at(*index)));
            bytes.extend_from_slice(key);
            ends.push(bytes.len());
        }
        true
    }
}
