//! Level M: the pure cores of coordinators and executors, with messages, disks and time as plain values.
//!
//! A [`Model`](walk::Model) is a world in which everything that may happen next is a value; a seed chooses what does
//! ([`walk`]), and a walk that breaks an invariant is shrunk to the fewest steps that do. There are three:
//!
//! - [`World`]: coordinators, executors and one job between them, whatever dies, is late or comes twice (P1 to P10,
//!   P14, P15).
//! - [`LogWorld`]: processes that share a topic, and a disk that loses what was not synced (P11, P12).
//! - [`TimeWorld`]: watermarks, idle splits and windows across restores (P13).
//!
//! The decisions are the engine's own: `JobDriver`, `State::apply`, `Control`, `BarrierAligner`, `Combiner`, the plan of
//! what may be collected, the log. What stands in for the shells around them does as little as it can.

mod coordinator;
mod dataflow;
mod executor;
#[cfg(feature = "zoo")]
mod finder;
mod folder;
mod job;
mod kind;
mod log;
pub mod small;
mod store;
mod time;
pub mod walk;
mod world;

#[cfg(feature = "zoo")]
pub use finder::{Finder, Found};
pub use kind::Kind;
pub use log::LogWorld;
pub use time::TimeWorld;
pub use world::{Action, Shape, World};
