//! Joins without a window: every row of both sides is kept, and each row that comes meets those of the other side.
//!
//! A key has one slot for both sides, so that a row is looked up once; the rows of a slot stand in a list of each side
//! ([`regular`]), and are kept by number in columns ([`super::kept_rows`]). With a time to live they leave again ([`age`]).

mod age;
mod aside;
mod condition;
mod interval;
mod interval_aside;
mod regular;
mod temporal;

pub use interval::IntervalJoin;
pub use regular::Join;
pub use temporal::TemporalJoin;
