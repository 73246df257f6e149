//! Windowed aggregation.
//!
//! - [`window_aggregate`]: the operator over slices, in its three phases.
//! - [`session`]: the operator over session windows.
//! - `calls`: the aggregate calls of a node, compiled.
//! - `slice_table`: the groups of one slice, behind one face: `general` for any key and any aggregate
//!   through DataFusion's accumulators, `integer` for one integer key and plain aggregates over
//!   `record_table`.
//! - `layout`: columns of partial rows and of state rows.

pub(crate) mod calls;
mod general;
mod integer;
pub(crate) mod layout;
pub(crate) mod per_group;
mod record_table;
pub mod session;
mod slice_table;
mod sliding;
pub mod window_aggregate;
