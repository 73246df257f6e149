//! `GROUP BY` without a window: a changelog of the groups there are.
//!
//! Every group has a *slot*, a small number by which all that is known of it is found: its key in [`super::slots`], its
//! accumulators in vectors, one for each call ([`accumulator`]). A batch is looked up as a whole, then each call takes it
//! as a whole; rows that are taken back count negatively. Groups that changed are told at barriers and from time to time
//! ([`aggregate`]), so that a key that changes a thousand times in between is told once. Groups and values that were not
//! used of late are put aside where memory is short ([`aside`], [`values_aside`]).

pub(crate) mod accumulator;
mod aggregate;
pub(crate) mod aside;
mod count;
mod distinct;
mod extreme;
mod floats;
mod per_slot;
pub(crate) mod state;
mod sum;
mod values;
mod values_aside;
mod windows;

pub use aggregate::GroupAggregate;
