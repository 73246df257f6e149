//! Durable bytes: the environment (disk, clock, entropy), crash-safe files, the embedded log, the
//! checkpoint store, keyed state tables, and the small metadata store.

pub mod checkpoint;
pub mod crash_safe;
pub mod env;
pub mod log;
pub mod meta;
pub mod object;
pub mod small_file;
pub mod spill;
pub mod state;
pub mod suite;
