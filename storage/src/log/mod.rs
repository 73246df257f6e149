//! The embedded log.

/// Placeholder until the log lands.
pub struct Topics;
