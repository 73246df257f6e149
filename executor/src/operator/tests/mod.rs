//! Operators against brute-force oracles: random rows out of order, watermarks, NULLs, snapshots at random
//! points restored into other parallelisms.

mod aggregate;
mod forgetful_joins;
mod group;
mod group_windows;
mod growing_states;
mod harness;
mod interval_joins;
mod joins;
mod latest_rows;
mod over;
mod over_by_clock;
mod regular_joins;
mod sessions;
mod spilling;
mod stateless;
mod temporal_joins;
mod time_to_live;
mod top_n;
mod window_top_n;
