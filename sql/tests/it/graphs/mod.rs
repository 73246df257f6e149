//! Queries and the streaming graphs they become.

mod joins;
mod nexmark;
mod tables;
mod windows;
