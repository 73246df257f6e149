//! Windowed aggregation.
//!
//! - [`window_aggregate`]: the operator over slices, in its three phases.
//! - [`session`]: the operator over session windows.
//! - `calls`: the aggregate calls of a node, compiled.
//! - `slice_table`: the groups of one slice, behind one face: `general` for any key and any aggregate
//!   through DataFusion's accumulators (`settled`: its groups at rest), `integer` for one integer key and plain
//!   aggregates over `record_table`.
//! - `slices`: the tables of all slices.
//! - `shared`: windows that share slices: `running`, where a slice can be taken away again, and `sliding`.
//! - `emission`: a window that is being put out.
//! - `extreme`, `percentile`: `MIN` and `MAX` of floats, and `PERCENTILE_CONT`, where DataFusion's own will not do.
//! - `layout`: columns of partial rows and of state rows.

pub(crate) mod calls;
mod distinct_count;
mod emission;
pub(crate) mod extreme;
mod general;
mod integer;
pub(crate) mod layout;
pub(crate) mod per_group;
mod percentile;
mod record_table;
mod running;
pub mod session;
mod settled;
mod shared;
mod slice_table;
mod slices;
mod sliding;
pub mod window_aggregate;
