//! What happened to a cluster and when: one line of JSON for each fault, written as it ends.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

use super::fault::Fault;

/// `history.jsonl` of a campaign's folder.
pub struct History {
    file: File,
    begun: Instant,
}

impl History {
    /// # Errors
    /// If it cannot be made.
    pub fn new(folder: &Path) -> Result<Self> {
        let file = File::create(folder.join("history.jsonl")).context("make the history")?;
        Ok(Self { file, begun: Instant::now() })
    }

    /// A fault that took so long is over; `met`: it came about.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn note(&mut self, fault: &Fault, took: Duration, met: bool) -> Result<()> {
        let line = json!({
            "ended_ms": self.begun.elapsed().as_millis(),
            "took_ms": took.as_millis(),
            "kind": fault.kind,
            "which": fault.which,
            "is_alone": fault.is_alone,
            "met": met,
        });
        writeln!(self.file, "{line}").context("write the history")
    }
}
