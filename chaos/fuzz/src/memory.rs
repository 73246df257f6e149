//! Counts what a decoder asks for: a length that is believed before its bytes are there shows as memory.
//!
//! The allocator is that of every binary which links this crate. Counts are of the calling thread, so that targets
//! can run beside each other.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// One request above this is refused, and the process ends with its size: it would take the machine's memory.
const ONE_REQUEST_MAX: usize = 2 << 30;

thread_local! {
    static HELD: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `act` gives, and how much more than before was held at once by this thread while it ran.
pub fn peak_of<T>(act: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let given = act();
    (given, usize::try_from(PEAK.get() - before).unwrap_or(0))
}

fn add(bytes: usize) {
    let held = HELD.get() + bytes as i64;
    HELD.set(held);
    if held > PEAK.get() {
        PEAK.set(held);
    }
}

fn subtract(bytes: usize) {
    HELD.set(HELD.get() - bytes as i64);
}

#[expect(unsafe_code, reason = "an allocator that counts and hands all else to the system's")]
// SAFETY: every call goes to the system's allocator with the layout it came with, or is refused with null; counting
// itself allocates nothing, because the counters are initialised as constants and have nothing to drop.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > ONE_REQUEST_MAX {
            return std::ptr::null_mut();
        }
        add(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() > ONE_REQUEST_MAX {
            return std::ptr::null_mut();
        }
        add(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        subtract(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size > ONE_REQUEST_MAX {
            return std::ptr::null_mut();
        }
        // While it is copied both are there.
        add(size);
        subtract(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_that_was_held_at_once_is_counted() {
        let (held, peak) = peak_of(|| {
            drop(vec![0_u8; 3 << 20]);
            vec![0_u8; 1 << 20]
        });
        assert!((3 << 20..4 << 20).contains(&peak), "{peak}");
        drop(held);
        let (_, peak) = peak_of(|| drop(vec![0_u8; 1 << 10]));
        assert!(peak < 2 << 10, "{peak}");
    }
}
