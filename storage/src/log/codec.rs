//! Little-endian fields at fixed places.
//!
//! Reading past the end gives zero: every caller checks length and CRC32C before it believes a field.

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    array_at(bytes, at).map_or(0, u16::from_le_bytes)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    array_at(bytes, at).map_or(0, u32::from_le_bytes)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    array_at(bytes, at).map_or(0, u64::from_le_bytes)
}

pub(super) fn i64_at(bytes: &[u8], at: usize) -> i64 {
    array_at(bytes, at).map_or(0, i64::from_le_bytes)
}

pub(super) fn u128_at(bytes: &[u8], at: usize) -> u128 {
    array_at(bytes, at).map_or(0, u128::from_le_bytes)
}

/// Overwrites `value.len()` bytes at `at`. Callers size the buffer first.
pub(super) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    debug_assert!(at + value.len() <= bytes.len(), "a field lies inside its record");
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

/// `value` rounded up to a multiple of `unit`, a power of two.
pub(super) fn round_up(value: usize, unit: usize) -> usize {
    value.saturating_add(unit - 1) & !(unit - 1)
}

/// A length as `u64`; `usize` is never wider on the platforms we build for.
pub(super) fn long(length: usize) -> u64 {
    length as u64
}

/// A length read from a file as `usize`; saturates, and then fails every bound check.
pub(super) fn short(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}
