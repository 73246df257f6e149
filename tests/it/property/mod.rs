//! Random tables and random window queries against an oracle that evaluates them row by row.
//!
//! One script holds twenty queries over two tables, so that the start of a process is paid once for all
//! of them. `QANAT_PROPERTY_CASES=n` asks for more than the usual 1,000 queries, and
//! `QANAT_PROPERTY_SEED=n` for others; a failure prints the command that repeats it alone. Trees of operators over rows that
//! change are tried the same way, `QANAT_PROPERTY_TREES=n` of them.

mod changes;
mod late;
mod oracle;
mod query;
mod run;
mod table;
mod tree;
