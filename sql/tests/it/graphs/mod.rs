//! Queries and the streaming graphs they become.

mod changelogs;
mod joins;
mod nexmark;
mod tables;
mod windows;
