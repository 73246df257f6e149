//! Rows kept in columns, each with a number by which it is found, gathered and removed.
//!
//! Numbers rise, and are those of one process. In the state a row has a name, which is unlike those of other rows of its
//! key group whoever had that before. Rows stand in chunks, in the order of their numbers; small neighbours are joined as they come, so that
//! there are few chunks however small the batches are, and a chunk of which most rows are gone is thinned out.

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, new_null_array};
use arrow::compute::{concat_batches, filter_record_batch, interleave};
use arrow::datatypes::SchemaRef;
use qanat_proto::error::Result;

use super::evaluate::internal;

pub(crate) struct KeptRows {
    schema: SchemaRef,
    chunks: Vec<Chunk>,
    /// Of the next row.
    next: i64,
    /// Higher than those of all rows that were ever restored or named here.
    next_name: i64,
    live: usize,
    bytes: usize,
}

struct Chunk {
    rows: RecordBatch,
    /// Rising.
    numbers: Vec<i64>,
    names: Vec<i64>,
    is_live: Vec<bool>,
    live: usize,
    /// Row stands in the state.
    is_saved: Vec<bool>,
    has_unsaved: bool,
    /// Matches of each row on the other side, and [`OUTLIVED`].
    matches: Vec<u32>,
    bytes: usize,
}

/// A chunk of so many rows is joined with no other.
const CHUNK_ROWS: usize = 1 << 16;
/// Bit of a number of matches: the row had one that is gone by its age, and counts as matched for ever.
const OUTLIVED: u32 = 1 << 31;

/// Numbers of matches, none counted yet, of rows that have outlived one or not.
pub(crate) fn of_marks(marks: &BooleanArray) -> Vec<u32> {
    marks.values().iter().map(|mark| if mark { OUTLIVED } else { 0 }).collect()
}

impl KeptRows {
    pub(crate) fn new(schema: SchemaRef) -> Self {
        Self { schema, chunks: Vec::new(), next: 0, next_name: 0, live: 0, bytes: 0 }
    }

    /// Keeps rows, each with its number of matches. Returns the number of the first; the others follow.
    pub(crate) fn append(&mut self, rows: RecordBatch, matches: Vec<u32>) -> Result<i64> {
        let names = (self.next_name..self.next_name + rows.num_rows() as i64).collect();
        self.push(names, rows, matches, false)
    }

    fn push(&mut self, names: Vec<i64>, rows: RecordBatch, matches: Vec<u32>, is_saved: bool) -> Result<i64> {
        let (first, count) = (self.next, rows.num_rows());
        if count == 0 {
            return Ok(first);
        }
        self.next += count as i64;
        self.next_name = names.iter().fold(self.next_name, |next, name| next.max(name + 1));
        self.live += count;
        let numbers = (first..self.next).collect();
        let bytes = crate::memory::batch_bytes(&rows);
        let mut chunk = Chunk {
            rows,
            numbers,
            names,
            is_live: vec![true; count],
            live: count,
            is_saved: vec![is_saved; count],
            has_unsaved: !is_saved,
            matches,
            bytes,
        };
        // As in a binary counter: a row is copied once for each doubling of its chunk.
        while let Some(last) = self.chunks.last()
            && last.numbers.len() < 2 * chunk.numbers.len()
            && last.numbers.len() + chunk.numbers.len() <= CHUNK_ROWS
        {
            let Some(last) = self.chunks.pop() else { break };
            self.bytes -= last.size();
            chunk = last.join(chunk, &self.schema)?;
        }
        self.bytes += chunk.size();
        self.chunks.push(chunk);
        Ok(first)
    }

    /// Chunk and place of a row that is kept.
    fn place(&self, number: i64) -> Option<(usize, usize)> {
        let chunk = self.chunks.partition_point(|chunk| chunk.numbers.first().is_some_and(|first| *first <= number));
        let chunk = chunk.checked_sub(1)?;
        let numbers = &self.chunks[chunk].numbers;
        let first = numbers[0];
        let guess = usize::try_from(number - first).ok()?;
        // Without gaps a number is its place.
        let at = if numbers.get(guess) == Some(&number) { guess } else { numbers.binary_search(&number).ok()? };
        Some((chunk, at))
    }

    /// Columns of rows in this order; NULLs where there is no number.
    pub(crate) fn gather(&self, numbers: &[Option<i64>]) -> Result<Vec<ArrayRef>> {
        let mut used: Vec<usize> = Vec::new();
        let mut places: Vec<(usize, usize)> = Vec::with_capacity(numbers.len());
        // By chunk: its place among those used, from 1 on; 0 is a row of NULLs.
        let mut known: Vec<usize> = vec![0; self.chunks.len()];
        for number in numbers {
            let Some((chunk, at)) = number.and_then(|number| self.place(number)) else {
                places.push((0, 0));
                continue;
            };
            if known[chunk] == 0 {
                used.push(chunk);
                known[chunk] = used.len();
            }
            places.push((known[chunk], at));
        }
        let column = |index: usize| {
            let nulls = new_null_array(self.schema.field(index).data_type(), 1);
            let arrays = used.iter().map(|chunk| self.chunks[*chunk].rows.column(index).as_ref());
            let arrays: Vec<&dyn Array> = std::iter::once(nulls.as_ref()).chain(arrays).collect();
            interleave(&arrays, &places).map_err(internal)
        };
        (0..self.schema.fields().len()).map(column).collect()
    }

    /// Changes how many matches a row has, and tells how many it had and has.
    pub(crate) fn change_matches(&mut self, number: i64, by: i64) -> (u32, u32) {
        let Some((chunk, at)) = self.place(number) else { return (0, 0) };
        let matches = &mut self.chunks[chunk].matches[at];
        let before = *matches;
        *matches = u32::try_from((i64::from(before) + by).max(0)).unwrap_or(u32::MAX);
        (before, *matches)
    }

    /// Rows of these numbers are gone. Returns the name of each that stands in the state.
    pub(crate) fn remove(&mut self, numbers: &[i64]) -> Result<Vec<Option<i64>>> {
        let mut touched: Vec<usize> = Vec::new();
        let mut saved = Vec::with_capacity(numbers.len());
        for number in numbers {
            let Some((chunk, at)) = self.place(*number) else {
                saved.push(None);
                continue;
            };
            let part = &mut self.chunks[chunk];
            saved.push(part.is_saved[at].then_some(part.names[at]));
            if std::mem::replace(&mut part.is_live[at], false) {
                part.live -= 1;
                self.live -= 1;
                touched.push(chunk);
            }
        }
        touched.sort_unstable();
        touched.dedup();
        // From behind, so that places of those in front stay what they are.
        for chunk in touched.into_iter().rev() {
            let part = &mut self.chunks[chunk];
            if part.live * 2 >= part.numbers.len() {
                continue;
            }
            self.bytes -= part.size();
            part.thin_out()?;
            if part.live == 0 {
                self.chunks.remove(chunk);
            } else {
                self.bytes += self.chunks[chunk].size();
            }
        }
        Ok(saved)
    }

    /// The name of a row, if it is there.
    pub(crate) fn name(&self, number: i64) -> Option<i64> {
        let (chunk, at) = self.place(number)?;
        let chunk = &self.chunks[chunk];
        chunk.is_live[at].then(|| chunk.names[at])
    }

    /// The name of a row and how many matches it has, if it is there.
    pub(crate) fn facts(&self, number: i64) -> Option<(i64, u32)> {
        let (chunk, at) = self.place(number)?;
        let chunk = &self.chunks[chunk];
        chunk.is_live[at].then(|| (chunk.names[at], chunk.matches[at]))
    }

    /// The name of the next row that is appended.
    pub(crate) fn next_name(&self) -> i64 {
        self.next_name
    }

    /// Whether a row stands in the state.
    pub(crate) fn is_saved(&self, number: i64) -> bool {
        self.place(number).is_some_and(|(chunk, at)| self.chunks[chunk].is_saved[at])
    }

    /// A match of a row is gone, and the row counts as matched for ever. Returns whether it did not so far.
    pub(crate) fn outlive_match(&mut self, number: i64) -> bool {
        let Some((chunk, at)) = self.place(number) else { return false };
        let matches = &mut self.chunks[chunk].matches[at];
        let is_first = *matches & OUTLIVED == 0;
        *matches = (*matches & !OUTLIVED).saturating_sub(1) | OUTLIVED;
        is_first
    }

    /// Rows that are there and not saved yet, with their names.
    pub(crate) fn take_unsaved(&mut self) -> Result<Vec<(Int64Array, RecordBatch)>> {
        Ok(self.take_unsaved_marked()?.into_iter().map(|(names, rows, _)| (names, rows)).collect())
    }

    /// As [`Self::take_unsaved`], and which rows have outlived a match.
    pub(crate) fn take_unsaved_marked(&mut self) -> Result<Vec<(Int64Array, RecordBatch, BooleanArray)>> {
        let mut unsaved = Vec::new();
        for chunk in self.chunks.iter_mut().filter(|chunk| chunk.has_unsaved) {
            let is_new = chunk.is_saved.iter().zip(&chunk.is_live).map(|(saved, live)| *live && !saved);
            let is_new = BooleanArray::from(is_new.collect::<Vec<_>>());
            let names = chunk.names.iter().zip(is_new.values()).filter(|(_, is_new)| *is_new);
            let names = Int64Array::from_iter_values(names.map(|(name, _)| *name));
            let marks = chunk.matches.iter().zip(is_new.values()).filter(|(_, is_new)| *is_new);
            let marks = BooleanArray::from_iter(marks.map(|(matches, _)| Some(matches & OUTLIVED > 0)));
            unsaved.push((names, filter_record_batch(&chunk.rows, &is_new).map_err(internal)?, marks));
            chunk.is_saved.fill(true);
            chunk.has_unsaved = false;
        }
        Ok(unsaved)
    }

    /// Puts back rows of the state with their names. Returns the number of the first; the others follow.
    pub(crate) fn restore(&mut self, names: Vec<i64>, rows: RecordBatch) -> Result<i64> {
        let count = rows.num_rows();
        self.bring_back(names, rows, vec![0; count])
    }

    /// Puts back rows that were taken out, with their names and numbers of matches.
    pub(crate) fn bring_back(&mut self, names: Vec<i64>, rows: RecordBatch, matches: Vec<u32>) -> Result<i64> {
        self.push(names, rows, matches, true)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Numbers of all rows there are, in order.
    pub(crate) fn numbers(&self) -> Vec<i64> {
        let live = self.chunks.iter().flat_map(|chunk| chunk.numbers.iter().zip(&chunk.is_live));
        live.filter(|(_, live)| **live).map(|(number, _)| *number).collect()
    }

    /// Of the rows that are there and came before that of a number, in order.
    pub(crate) fn numbers_below(&self, number: i64) -> Vec<i64> {
        let old = self.chunks.iter().take_while(|chunk| chunk.numbers.first().is_some_and(|first| *first < number));
        let rows = old.flat_map(|chunk| chunk.numbers.iter().zip(&chunk.is_live));
        rows.filter(|(other, live)| **live && **other < number).map(|(other, _)| *other).collect()
    }

    /// Rows there are.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// Of the next row.
    pub(crate) fn next_number(&self) -> i64 {
        self.next
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}

impl Chunk {
    fn size(&self) -> usize {
        // A number, a name, a count of matches and two flags for each row.
        self.bytes + self.numbers.len() * 22
    }

    fn join(mut self, mut next: Self, schema: &SchemaRef) -> Result<Self> {
        let rows = concat_batches(schema, [&self.rows, &next.rows]).map_err(internal)?;
        self.numbers.append(&mut next.numbers);
        self.names.append(&mut next.names);
        self.is_live.append(&mut next.is_live);
        self.is_saved.append(&mut next.is_saved);
        self.has_unsaved |= next.has_unsaved;
        self.matches.append(&mut next.matches);
        let bytes = crate::memory::batch_bytes(&rows);
        Ok(Self { rows, live: self.live + next.live, bytes, ..self })
    }

    /// Drops the rows that are gone.
    fn thin_out(&mut self) -> Result<()> {
        let mask = BooleanArray::from(std::mem::take(&mut self.is_live));
        self.rows = filter_record_batch(&self.rows, &mask).map_err(internal)?;
        let keep = |at: &usize| mask.value(*at);
        let places: Vec<usize> = (0..mask.len()).filter(keep).collect();
        self.numbers = places.iter().map(|at| self.numbers[*at]).collect();
        self.names = places.iter().map(|at| self.names[*at]).collect();
        self.matches = places.iter().map(|at| self.matches[*at]).collect();
        self.is_saved = places.iter().map(|at| self.is_saved[*at]).collect();
        self.is_live = vec![true; places.len()];
        self.live = places.len();
        self.bytes = crate::memory::batch_bytes(&self.rows);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::AsArray;
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};

    use super::*;

    fn batch(values: std::ops::Range<i64>) -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![Field::new("v", DataType::Int64, true)]));
        RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from_iter_values(values))]).expect("a batch")
    }

    #[test]
    fn rows_are_found_whatever_is_joined_and_thinned_out() {
        let mut kept = KeptRows::new(batch(0..0).schema());
        let mut next = 0;
        for size in [1, 1, 5, 3, 100, 2, 7, 1, 1, 1, 4_000, 9] {
            let first = kept.append(batch(next..next + size), vec![0; size as usize]).expect("kept");
            assert_eq!(first, next);
            next += size;
        }
        assert!(kept.chunks.len() < 6, "{} chunks", kept.chunks.len());
        let gone: Vec<i64> = (0..next).filter(|number| number % 4 > 0).collect();
        kept.remove(&gone).expect("removed");
        let there: Vec<i64> = (0..next).filter(|number| number % 4 == 0).collect();
        assert_eq!(kept.numbers(), there);
        let wanted: Vec<Option<i64>> = there.iter().rev().map(|number| Some(*number)).chain([None]).collect();
        let found = kept.gather(&wanted).expect("gathered");
        let found: Vec<Option<i64>> = found[0].as_primitive::<Int64Type>().iter().collect();
        assert_eq!(found, wanted);
        let unsaved: usize = kept.take_unsaved().expect("rows").iter().map(|(numbers, _)| numbers.len()).sum();
        assert_eq!(unsaved, there.len());
        assert!(kept.take_unsaved().expect("none").iter().all(|(numbers, _)| numbers.is_empty()));
    }
}
