//! Rewrites that give queries Flink's value semantics, one rule per file.
//!
//! They run on the plan before type coercion and optimisation. `docs/guide/dialect.md` lists them.

pub(crate) mod aggregate_types;
pub(crate) mod casts;
pub(crate) mod division;
pub(crate) mod floats;
pub(crate) mod implicit_cast;
pub(crate) mod lateral;
pub(crate) mod literals;
pub(crate) mod map_access;
pub(crate) mod names;
pub(crate) mod row_number;
pub(crate) mod temporal;
