//! Which sessions are open, by key.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, ArrayRef};
use arrow::compute::{concat, interleave, take};
use arrow::datatypes::DataType;
use qanat_executor_core::session::{Placement, SessionRule, SessionSet};
use qanat_executor_core::window::Window;
use qanat_proto::error::{Error, Result};

use super::super::super::evaluate::internal;
use super::super::super::keys::KeyIndex;
use super::parts::Part;

/// An open session: its key's number and its start.
pub(super) type SessionId = (u32, i64);

/// What an open session owns.
#[derive(Clone, Debug, Default)]
pub(super) struct Session {
    pub(super) end: i64,
    pub(super) parts: Vec<Part>,
    /// Changed since the last snapshot.
    pub(super) is_changed: bool,
}

/// Open sessions with their keys.
pub(super) struct SessionBook {
    pub(super) rule: SessionRule,
    key_types: Vec<DataType>,
    index: KeyIndex,
    /// Values of the keys by number, in chunks as they came.
    chunks: Vec<Vec<ArrayRef>>,
    places: Vec<(u32, u32)>,
    sets: Vec<SessionSet>,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    by_end: BTreeSet<(i64, SessionId)>,
    /// Sessions that are gone or merged away since the last snapshot, with the keys' numbers of now.
    pub(super) gone: BTreeSet<SessionId>,
    /// Keys whose `closed_until` changed since the last snapshot.
    changed_bounds: BTreeSet<u32>,
}

/// A session that has closed.
pub(super) struct Closed {
    pub(super) key: u32,
    pub(super) window: Window,
    pub(super) parts: Vec<Part>,
}

impl SessionBook {
    pub(super) fn new(rule: SessionRule, key_types: Vec<DataType>) -> Result<Self> {
        Ok(Self {
            rule,
            index: KeyIndex::new(&key_types).map_err(internal)?,
            key_types,
            chunks: Vec::new(),
            places: Vec::new(),
            sets: Vec::new(),
            sessions: BTreeMap::new(),
            by_end: BTreeSet::new(),
            gone: BTreeSet::new(),
            changed_bounds: BTreeSet::new(),
        })
    }

    /// Numbers of the keys of each row.
    pub(super) fn keys(&mut self, keys: &[ArrayRef], rows: usize, watermark: i64) -> Result<Vec<usize>> {
        let mut numbers = Vec::new();
        let known = self.places.len();
        self.index.intern(keys, rows, &mut numbers).map_err(internal)?;
        // The first row of each new key, by number: keys whose hashes collide are numbered behind later ones.
        let mut new_rows: Vec<u32> = vec![u32::MAX; self.index.len() - known];
        for (row, number) in numbers.iter().enumerate() {
            if let Some(first) = number.checked_sub(known).and_then(|new| new_rows.get_mut(new)) {
                *first = (*first).min(row as u32);
            }
        }
        if !new_rows.is_empty() {
            let chunk = self.chunks.len() as u32;
            self.places.extend((0..new_rows.len() as u32).map(|row| (chunk, row)));
            let rule = self.rule;
            let fresh = SessionSet::new(&rule, watermark);
            if fresh.closed_until() > i64::MIN {
                self.changed_bounds.extend(known as u32..self.places.len() as u32);
            }
            self.sets.resize(self.places.len(), fresh);
            let rows = arrow::array::UInt32Array::from(new_rows);
            let columns = keys.iter().map(|key| take(key, &rows, None)).collect::<Result<_, _>>();
            self.chunks.push(columns.map_err(internal)?);
        }
        Ok(numbers)
    }

    /// Values of keys by their numbers.
    pub(super) fn key_values(&self, numbers: impl Iterator<Item = u32>) -> Result<Vec<ArrayRef>> {
        let positions: Vec<(usize, usize)> =
            numbers.map(|n| self.places[n as usize]).map(|(chunk, row)| (chunk as usize, row as usize)).collect();
        let columns = (0..self.key_types.len()).map(|column| {
            let chunks: Vec<&dyn Array> = self.chunks.iter().map(|chunk| chunk[column].as_ref()).collect();
            if chunks.is_empty() {
                return Ok(arrow::array::new_empty_array(&self.key_types[column]));
            }
            interleave(&chunks, &positions)
        });
        columns.collect::<Result<_, _>>().map_err(internal)
    }

    /// Adds a row at `time`: false if it is late.
    pub(super) fn insert(&mut self, key: u32, time: i64, watermark: i64) -> bool {
        let placement = self.sets[key as usize].insert(time, &self.rule, watermark);
        match placement {
            Placement::Late => return false,
            Placement::Inside(window) => {
                self.touch((key, window.start));
            }
            Placement::Opened(window) => self.open((key, window.start), window.end, Vec::new()),
            Placement::Extended { from, to } => {
                let parts = self.remove((key, from.start), from.end);
                self.open((key, to.start), to.end, parts);
            }
            Placement::Merged { from, to } => {
                let mut parts = Vec::new();
                for from in from {
                    parts.extend(self.remove((key, from.start), from.end));
                }
                self.open((key, to.start), to.end, parts);
            }
        }
        true
    }

    /// The open session of `key` that holds `time`.
    pub(super) fn session_of(&self, key: u32, time: i64) -> Option<SessionId> {
        let (id, session) = self.sessions.range((key, i64::MIN)..=(key, time)).next_back()?;
        (time < session.end).then_some(*id)
    }

    pub(super) fn add_part(&mut self, id: SessionId, part: Part) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.parts.push(part);
        }
    }

    /// Takes out the sessions that `watermark` closes, in order of their ends.
    pub(super) fn close(&mut self, watermark: i64) -> Vec<Closed> {
        let mut closed = Vec::new();
        while let Some((end, id)) = self.by_end.first().copied()
            && self.rule.is_closed(end, watermark)
        {
            let parts = self.remove(id, end);
            self.sets[id.0 as usize].close(&self.rule, watermark);
            self.changed_bounds.insert(id.0);
            closed.push(Closed { key: id.0, window: Window { end, start: id.1 }, parts });
        }
        closed
    }

    /// Takes an open session back from a snapshot. Its set learns of it in [`Self::finish_restore`].
    pub(super) fn restore_session(&mut self, key: u32, window: Window, parts: Vec<Part>) {
        self.sessions.insert((key, window.start), Session { end: window.end, parts, is_changed: false });
        self.by_end.insert((window.end, (key, window.start)));
    }

    /// Takes a row of an open session back from a snapshot.
    pub(super) fn reopen(&mut self, key: u32, time: i64, part: Part) {
        if self.insert(key, time, i64::MIN)
            && let Some(id) = self.session_of(key, time)
        {
            self.add_part(id, part);
        }
    }

    /// Takes a key's bound back from a snapshot.
    pub(super) fn restore_bound(&mut self, key: u32, closed_until: i64) {
        let set = &mut self.sets[key as usize];
        *set = SessionSet::restore(set.open().to_vec(), closed_until);
    }

    /// Rebuilds the sets from open sessions and bounds.
    pub(super) fn finish_restore(&mut self) {
        let mut open: Vec<Vec<Window>> = vec![Vec::new(); self.sets.len()];
        for ((key, start), session) in &mut self.sessions {
            session.is_changed = false;
            open[*key as usize].push(Window { end: session.end, start: *start });
        }
        for (set, open) in self.sets.iter_mut().zip(open) {
            *set = SessionSet::restore(open, set.closed_until());
        }
        self.gone.clear();
        self.changed_bounds.clear();
    }

    /// Keys that need no state any more, in order: when they are most of all, or when all input has ended.
    pub(super) fn disposable_keys(&self, watermark: i64) -> Vec<u32> {
        const SPARE_KEYS: usize = 4_096;
        let is_disposable = |key: &u32| self.sets[*key as usize].is_disposable(&self.rule, watermark);
        let keys: Vec<u32> = (0..self.sets.len() as u32).filter(is_disposable).collect();
        let is_worth_it = watermark == i64::MAX || 2 * keys.len() > self.sets.len() + SPARE_KEYS;
        if is_worth_it { keys } else { Vec::new() }
    }

    /// Keys whose bound changed since the last call, with those bounds.
    pub(super) fn take_bounds(&mut self) -> Vec<(u32, i64)> {
        let keys = std::mem::take(&mut self.changed_bounds);
        keys.into_iter().map(|key| (key, self.sets[key as usize].closed_until())).collect()
    }

    /// Forgets keys, which renumbers the others. Only right after a snapshot, when no change is unsaved.
    pub(super) fn forget_keys(&mut self, disposable: &[u32]) -> Result<()> {
        let kept: Vec<u32> = (0..self.sets.len() as u32).filter(|key| disposable.binary_search(key).is_err()).collect();
        let values = self.key_values(kept.iter().copied())?;
        let mut index = KeyIndex::new(&self.key_types).map_err(internal)?;
        let mut numbers = Vec::new();
        index.intern(&values, kept.len(), &mut numbers).map_err(internal)?;
        self.index = index;
        let renumbered: BTreeMap<u32, u32> = kept.iter().copied().zip(numbers.iter().map(|new| *new as u32)).collect();
        // A new number is not always that of the row: keys whose hashes collide come behind later ones.
        let mut rows: Vec<u32> = (0..kept.len() as u32).collect();
        rows.sort_unstable_by_key(|row| numbers[*row as usize]);
        self.sets = rows.iter().map(|row| self.sets[kept[*row as usize] as usize].clone()).collect();
        self.places = (0..kept.len() as u32).map(|row| (0, row)).collect();
        let rows = arrow::array::UInt32Array::from(rows);
        let columns = values.iter().map(|column| take(column, &rows, None)).collect::<Result<_, _>>();
        self.chunks = vec![columns.map_err(internal)?];
        let sessions = std::mem::take(&mut self.sessions);
        self.by_end.clear();
        for ((key, start), session) in sessions {
            let key =
                renumbered.get(&key).copied().ok_or_else(|| Error::internal("a key with sessions is forgotten"))?;
            self.by_end.insert((session.end, (key, start)));
            self.sessions.insert((key, start), session);
        }
        Ok(())
    }

    pub(super) fn first_end(&self) -> Option<i64> {
        self.by_end.first().map(|(end, _)| *end)
    }

    pub(super) fn bytes(&self) -> usize {
        // With the few parts that a session has: this is asked after each batch, and must not visit all.
        const SESSION_BYTES: usize = 192;
        let keys: usize = self.chunks.iter().flatten().map(|c| c.get_array_memory_size()).sum();
        let sets = self.sets.capacity() * size_of::<SessionSet>();
        self.index.bytes() + keys + sets + self.sessions.len() * SESSION_BYTES
    }

    /// Puts many small chunks of key values into one.
    pub(super) fn compact_keys(&mut self) -> Result<()> {
        const CHUNKS_MAX: usize = 256;
        if self.chunks.len() <= CHUNKS_MAX {
            return Ok(());
        }
        let columns = (0..self.key_types.len()).map(|column| {
            let chunks: Vec<&dyn Array> = self.chunks.iter().map(|chunk| chunk[column].as_ref()).collect();
            concat(&chunks)
        });
        self.chunks = vec![columns.collect::<Result<_, _>>().map_err(internal)?];
        self.places = (0..self.places.len() as u32).map(|row| (0, row)).collect();
        Ok(())
    }

    fn open(&mut self, id: SessionId, end: i64, parts: Vec<Part>) {
        self.gone.remove(&id);
        self.by_end.insert((end, id));
        self.sessions.insert(id, Session { end, parts, is_changed: true });
    }

    fn touch(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.is_changed = true;
        }
    }

    fn remove(&mut self, id: SessionId, end: i64) -> Vec<Part> {
        self.by_end.remove(&(end, id));
        self.gone.insert(id);
        self.sessions.remove(&id).map(|session| session.parts).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    use super::*;

    type Pair = (Option<i64>, Option<i64>);

    fn columns(pairs: &[Pair]) -> Vec<ArrayRef> {
        let first: Int64Array = pairs.iter().map(|pair| pair.0).collect();
        let second: Int64Array = pairs.iter().map(|pair| pair.1).collect();
        vec![Arc::new(Int64Array::from_value(7, pairs.len())), Arc::new(first), Arc::new(second)]
    }

    fn pairs_of(book: &SessionBook, numbers: &[u32]) -> Vec<Pair> {
        let columns = book.key_values(numbers.iter().copied()).expect("known keys");
        let values = |column: &ArrayRef| column.as_primitive::<Int64Type>().iter().collect::<Vec<_>>();
        values(&columns[1]).into_iter().zip(values(&columns[2])).collect()
    }

    /// (7, 1, NULL) and (7, NULL, 1) have one hash: the index numbers the second of them behind all others of the batch.
    #[test]
    fn keys_whose_hashes_collide_keep_their_numbers_apart() {
        let parts = || (-1..6).map(|n| (n >= 0).then_some(n));
        let pairs: Vec<Pair> = parts().flat_map(|a| parts().map(move |b| (a, b))).collect();
        let rule = SessionRule::new(10, 0).expect("a rule");
        let mut book = SessionBook::new(rule, vec![DataType::Int64; 3]).expect("a book");
        let mut number_of: BTreeMap<Pair, u32> = BTreeMap::new();
        for batch in pairs.chunks(20) {
            let numbers: Vec<u32> =
                book.keys(&columns(batch), batch.len(), 0).expect("numbers").into_iter().map(|n| n as u32).collect();
            assert_eq!(pairs_of(&book, &numbers), batch);
            number_of.extend(batch.iter().copied().zip(numbers));
        }
        for (pair, number) in &number_of {
            let time = pair.0.unwrap_or(-1) * 100 + pair.1.unwrap_or(-1) + 1_000;
            assert!(book.insert(*number, time, i64::MIN));
        }
        let gone: Vec<Pair> = pairs.iter().step_by(3).copied().collect();
        let mut disposable: Vec<u32> = gone.iter().map(|pair| number_of[pair]).collect();
        disposable.sort_unstable();
        for (end, id) in book.by_end.clone().into_iter().filter(|(_, id)| disposable.contains(&id.0)) {
            book.remove(id, end);
        }
        book.forget_keys(&disposable).expect("forgets");
        // Each session is still that of its key.
        let kept: Vec<Pair> = pairs.iter().filter(|pair| !gone.contains(pair)).copied().collect();
        assert_eq!(book.sessions.len(), kept.len());
        for (key, start) in book.sessions.keys() {
            let pair = pairs_of(&book, &[*key])[0];
            assert_eq!(*start, pair.0.unwrap_or(-1) * 100 + pair.1.unwrap_or(-1) + 1_000, "{pair:?}");
        }
        let again = book.keys(&columns(&pairs), pairs.len(), 0).expect("numbers");
        let again: Vec<u32> = again.into_iter().map(|n| n as u32).collect();
        assert_eq!(pairs_of(&book, &again), pairs);
    }
}
