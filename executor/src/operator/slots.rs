//! Keys and their slots.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, Rows, SortField};
use datafusion_common::DataFusionError;
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

/// Gives each key a slot, and gives slots of keys that are gone to others.
///
/// Keys are kept as [`arrow::row`] has them: bytes that are equal where keys are, one after the other. Keys must be
/// normalised (`normalized_key`). Without columns there is one key.
pub(crate) struct Slots {
    converter: RowConverter,
    has_columns: bool,
    table: HashTable<u32>,
    /// By slot.
    entries: Vec<Entry>,
    bytes: Vec<u8>,
    /// Of keys that are gone.
    dead_bytes: usize,
    free: Vec<u32>,
    /// The keys of a batch.
    batch: Option<Rows>,
}

#[derive(Clone, Copy, Default)]
struct Entry {
    hash: u64,
    start: usize,
    length: u32,
}

/// So much of the room may be taken by keys that are gone before the others are moved together.
const DEAD_BYTES_MIN: usize = 1 << 16;

impl Slots {
    pub(crate) fn new(types: &[DataType]) -> Result<Self, DataFusionError> {
        let converter = RowConverter::new(types.iter().cloned().map(SortField::new).collect())?;
        Ok(Self {
            converter,
            has_columns: !types.is_empty(),
            table: HashTable::new(),
            entries: Vec::new(),
            bytes: Vec::new(),
            dead_bytes: 0,
            free: Vec::new(),
            batch: None,
        })
    }

    /// The slot of each row's key, in order, into `slots`. New keys get one.
    pub(crate) fn find_or_add(
        &mut self,
        keys: &[ArrayRef],
        rows: usize,
        slots: &mut Vec<u32>,
    ) -> Result<(), DataFusionError> {
        slots.clear();
        if !self.has_columns {
            if rows > 0 && self.entries.is_empty() {
                self.entries.push(Entry::default());
            }
            slots.resize(rows, 0);
            return Ok(());
        }
        let mut batch = match self.batch.take() {
            Some(batch) => batch,
            None => self.converter.empty_rows(rows, 0),
        };
        batch.clear();
        self.converter.append(&mut batch, keys)?;
        for key in &batch {
            slots.push(self.slot_of(key.data()));
        }
        self.batch = Some(batch);
        Ok(())
    }

    fn slot_of(&mut self, key: &[u8]) -> u32 {
        let hash = xxh3_64(key);
        let (entries, bytes) = (&self.entries, &self.bytes);
        let is_key = |slot: &u32| {
            let entry = &entries[*slot as usize];
            entry.hash == hash && bytes[entry.start..entry.start + entry.length as usize] == *key
        };
        if let Some(slot) = self.table.find(hash, is_key) {
            return *slot;
        }
        let entry = Entry { hash, start: self.bytes.len(), length: key.len() as u32 };
        self.bytes.extend_from_slice(key);
        let slot = match self.free.pop() {
            Some(slot) => {
                self.entries[slot as usize] = entry;
                slot
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        };
        let entries = &self.entries;
        self.table.insert_unique(hash, slot, |slot| entries[*slot as usize].hash);
        slot
    }

    /// The key of each row, as bytes.
    pub(crate) fn rows(&self, keys: &[ArrayRef]) -> Result<Rows, DataFusionError> {
        Ok(self.converter.convert_columns(keys)?)
    }

    /// The slot of a key.
    pub(crate) fn find(&self, key: &[u8]) -> Option<u32> {
        if !self.has_columns {
            return (!self.entries.is_empty()).then_some(0);
        }
        let hash = xxh3_64(key);
        let is_key = |slot: &u32| self.entries[*slot as usize].hash == hash && self.key(*slot) == key;
        self.table.find(hash, is_key).copied()
    }

    /// The key of a slot that is in use, as bytes.
    pub(crate) fn key(&self, slot: u32) -> &[u8] {
        let entry = self.entries[slot as usize];
        &self.bytes[entry.start..entry.start + entry.length as usize]
    }

    /// The key of `slot` is gone; another one may get the slot.
    pub(crate) fn remove(&mut self, slot: u32) {
        if !self.has_columns {
            return;
        }
        let entry = std::mem::take(&mut self.entries[slot as usize]);
        if let Ok(found) = self.table.find_entry(entry.hash, |other| *other == slot) {
            found.remove();
            self.dead_bytes += entry.length as usize;
            self.free.push(slot);
        }
        if self.dead_bytes > DEAD_BYTES_MIN.max(self.bytes.len() / 2) {
            self.compact();
        }
    }

    fn compact(&mut self) {
        let mut bytes = Vec::with_capacity(self.bytes.len() - self.dead_bytes);
        for slot in &self.table {
            let entry = &mut self.entries[*slot as usize];
            let start = bytes.len();
            bytes.extend_from_slice(&self.bytes[entry.start..entry.start + entry.length as usize]);
            entry.start = start;
        }
        self.bytes = bytes;
        self.dead_bytes = 0;
    }

    /// The keys of `slots`, as columns.
    pub(crate) fn keys(&self, slots: &[u32]) -> Result<Vec<ArrayRef>, DataFusionError> {
        if !self.has_columns {
            return Ok(Vec::new());
        }
        let parser = self.converter.parser();
        let rows = slots.iter().map(|slot| parser.parse(self.key(*slot)));
        Ok(self.converter.convert_rows(rows)?)
    }

    /// Slots there are, used or free.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Slots in use.
    pub(crate) fn used(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Of `bytes` that all slots take alike, those of slots in use: the others serve the next keys.
    pub(crate) fn share(&self, bytes: usize) -> usize {
        match self.entries.len() {
            0 => bytes,
            slots => (bytes as u128 * self.used() as u128 / slots as u128) as usize,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.capacity() + self.slot_bytes()
    }

    fn slot_bytes(&self) -> usize {
        // A slot in the table takes its number, a byte for its state, and a seventh for room.
        let table = self.table.capacity() * 6;
        self.entries.capacity() * size_of::<Entry>() + table + self.free.capacity() * 4
    }

    /// Bytes of keys that are there, without the room that others have left.
    pub(crate) fn used_bytes(&self) -> usize {
        self.bytes.len() - self.dead_bytes + self.share(self.slot_bytes())
    }
}

/// A column as operators hand it on.
pub(crate) fn shared(column: impl arrow::array::Array + 'static) -> ArrayRef {
    Arc::new(column)
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array, StringArray};
    use arrow::datatypes::Int64Type;

    use super::*;

    #[test]
    fn keys_keep_their_slots_and_slots_are_used_again() {
        let mut slots = Slots::new(&[DataType::Int64, DataType::Utf8]).expect("types");
        let column = |numbers: std::ops::Range<i64>| -> Vec<ArrayRef> {
            let texts = numbers.clone().map(|n| (n % 3 > 0).then(|| format!("text {n}"))).collect::<StringArray>();
            vec![Arc::new(Int64Array::from_iter_values(numbers)), Arc::new(texts)]
        };
        let mut found = Vec::new();
        slots.find_or_add(&column(0..20_000), 20_000, &mut found).expect("slots");
        assert_eq!(found, (0..20_000).collect::<Vec<u32>>());
        for slot in 0..15_000 {
            slots.remove(slot);
        }
        let keys = slots.keys(&[15_000, 19_999]).expect("keys");
        assert_eq!(keys[0].as_primitive::<Int64Type>().values(), &[15_000, 19_999]);
        assert!(keys[1].is_null(0) && keys[1].as_string::<i32>().value(1) == "text 19999");
        slots.find_or_add(&column(10_000..20_000), 10_000, &mut found).expect("slots");
        assert_eq!(found[5_000..], (15_000..20_000).collect::<Vec<u32>>());
        assert_eq!(slots.len(), 20_000, "no slot is new");
        let mut again = Vec::new();
        slots.find_or_add(&column(10_000..20_000), 10_000, &mut again).expect("slots");
        assert_eq!(found, again);
    }

    #[test]
    fn without_columns_there_is_one_key() {
        let mut slots = Slots::new(&[]).expect("no types");
        let mut found = Vec::new();
        slots.find_or_add(&[], 3, &mut found).expect("slots");
        assert_eq!((found, slots.len()), (vec![0, 0, 0], 1));
    }
}
