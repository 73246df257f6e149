//! Chaos: real processes killed at real moments, and readers that trust nothing they did not compute.
//!
//! - [`oracle`] reads what a job left behind (commit records, files, topics) by the documented formats
//!   alone. It shares no code with the engine, so that a mistake in a writer cannot hide in its reader.
//! - [`model`] plays the engine's own decisions against every order of messages, losses and deaths that a seed gives.
//! - [`live`] starts the `qanat` binary, kills it, starts it again, and asks the oracle at every moment.
//!
//! `README.md` of this crate has the commands and the table of schedules.

pub mod live;
pub mod model;
pub mod oracle;
