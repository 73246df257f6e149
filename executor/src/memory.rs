//! The memory budget of a job: what its queues and its state hold.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arrow::array::types::ByteArrayType;
use arrow::array::{Array, ArrayRef, AsArray, GenericByteArray};
use arrow::datatypes::DataType;

/// Bytes held by one job. Sources pause while it is over its limit.
#[derive(Debug)]
pub struct JobMemory {
    limit: usize,
    used: AtomicUsize,
    peak: AtomicUsize,
    /// Bytes of state that were written to the local disk because there was no room, and that were read again.
    put_aside: AtomicU64,
    brought_back: AtomicU64,
}

impl JobMemory {
    pub fn new(limit: usize) -> Self {
        let (used, peak) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { limit, used, peak, put_aside: AtomicU64::new(0), brought_back: AtomicU64::new(0) }
    }

    pub fn grow(&self, bytes: usize) {
        if bytes > 0 {
            let used = self.used.fetch_add(bytes, Ordering::AcqRel) + bytes;
            self.peak.fetch_max(used, Ordering::AcqRel);
        }
    }

    pub fn shrink(&self, bytes: usize) {
        if bytes > 0 {
            self.used.fetch_sub(bytes, Ordering::AcqRel);
        }
    }

    /// Replaces what an owner held by what it holds now.
    pub fn change(&self, before: usize, after: usize) {
        if after > before {
            self.grow(after - before);
        } else {
            self.shrink(before - after);
        }
    }

    pub fn is_over(&self) -> bool {
        self.used.load(Ordering::Acquire) > self.limit
    }

    pub fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    pub fn peak(&self) -> usize {
        self.peak.load(Ordering::Acquire)
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Notes state that leaves memory for the local disk. Returns how much has left so far.
    pub fn note_put_aside(&self, bytes: usize) -> u64 {
        self.put_aside.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64
    }

    /// Notes state that comes back from there.
    pub fn note_brought_back(&self, bytes: usize) {
        self.brought_back.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn put_aside(&self) -> u64 {
        self.put_aside.load(Ordering::Relaxed)
    }

    pub fn brought_back(&self) -> u64 {
        self.brought_back.load(Ordering::Relaxed)
    }
}

/// Tells the allocator to give back what is free.
static GIVE_BACK: OnceLock<fn()> = OnceLock::new();

/// How the process's allocator gives back to the system what is free; to be said once, when it begins. Without it nothing
/// is given back but by itself.
pub fn set_give_back(give_back: fn()) {
    let _ = GIVE_BACK.set(give_back);
}

/// Much memory has been freed, in many small pieces.
pub(crate) fn give_back() {
    if let Some(give_back) = GIVE_BACK.get() {
        give_back();
    }
}

/// Bytes that the rows of a batch take, shared buffers counted by the part that is used.
pub fn batch_bytes(rows: &arrow::array::RecordBatch) -> usize {
    rows.columns().iter().map(array_bytes).sum()
}

/// Bytes of the rows of a column, of shared buffers only the part that is used.
///
/// The arrow crate counts all elements of a list, however short a slice of it is; here only those of the slice. It also
/// takes an allocation for each column, which the small parts behind a shuffle would feel.
pub fn array_bytes(array: &ArrayRef) -> usize {
    let nulls = if array.nulls().is_some() { array.len().div_ceil(8) } else { 0 };
    let elements = |values: &ArrayRef, offsets: &[i32]| {
        let within = within(offsets);
        nulls + size_of_val(offsets) + array_bytes(&values.slice(within.start, within.len()))
    };
    let data_type = array.data_type();
    if let Some(width) = data_type.primitive_width() {
        return nulls + array.len() * width;
    }
    match data_type {
        DataType::Utf8 => nulls + texts(array.as_string::<i32>()),
        DataType::Binary => nulls + texts(array.as_binary::<i32>()),
        DataType::List(_) => elements(array.as_list::<i32>().values(), array.as_list::<i32>().offsets()),
        DataType::Map(..) => {
            let entries: ArrayRef = Arc::new(array.as_map().entries().clone());
            elements(&entries, array.as_map().offsets())
        }
        DataType::Struct(_) => nulls + array.as_struct().columns().iter().map(array_bytes).sum::<usize>(),
        _ => array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size()),
    }
}

fn texts<T: ByteArrayType<Offset = i32>>(array: &GenericByteArray<T>) -> usize {
    size_of_val(array.value_offsets()) + within(array.value_offsets()).len()
}

/// What lies between the first and the last of the offsets of an array: they are no less than 0 and do not fall.
fn within(offsets: &[i32]) -> std::ops::Range<usize> {
    match (offsets.first(), offsets.last()) {
        (Some(first), Some(last)) => *first as usize..*last as usize,
        _ => 0..0,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ListBuilder, MapBuilder, StringBuilder, StructArray};
    use arrow::datatypes::Field;

    use super::*;

    #[test]
    fn slices_of_nested_columns_count_their_own_part() {
        let mut lists = ListBuilder::new(StringBuilder::new());
        let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        for row in 0..10_000 {
            for element in 0..3 {
                lists.values().append_value(format!("text {row} {element}"));
                maps.keys().append_value(format!("key {element}"));
                maps.values().append_value(format!("value {row}"));
            }
            lists.append(true);
            maps.append(true).unwrap();
        }
        let (lists, maps): (ArrayRef, ArrayRef) = (Arc::new(lists.finish()), Arc::new(maps.finish()));
        let field = |name: &str, array: &ArrayRef| Arc::new(Field::new(name, array.data_type().clone(), true));
        let parts = vec![(field("l", &lists), Arc::clone(&lists)), (field("m", &maps), Arc::clone(&maps))];
        let rows: ArrayRef = Arc::new(StructArray::from(parts));
        for whole in [lists, maps, rows] {
            let sliced: usize = (0..1_000).map(|part| array_bytes(&whole.slice(part * 10, 10))).sum();
            let all = array_bytes(&whole);
            assert!(sliced >= all && sliced < all * 11 / 10, "{sliced} for {all}: {}", whole.data_type());
            assert!(all <= whole.get_array_memory_size());
        }
    }
}
