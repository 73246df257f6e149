//! The first rows of each partition, of rows that come and may be taken back: `ROW_NUMBER`, `RANK` or `DENSE_RANK` with a
//! bound, `ORDER BY … LIMIT`, and deduplication, which keeps one row of each key.
//!
//! A partition has a list of its rows in their order ([`list`]), of which the rows themselves are kept in columns
//! ([`super::kept_rows`]). Where no row is ever taken back the list ends at the bound. Partitions that changed are told
//! at barriers and from time to time ([`operator`]): what went in and out in between is not told. Of the first rows to
//! come, which stay for ever, nothing is kept but their number ([`first_rows`]).

mod first_rows;
mod list;
mod operator;

pub use first_rows::FirstRows;
pub use operator::TopN;
