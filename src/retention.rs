//! The retention of topics, applied from time to time by whoever owns them.

use std::time::Duration;

use qanat_proto::Result;

/// How often.
pub(crate) const RETENTION_INTERVAL: Duration = Duration::from_secs(10);

/// Tells of sweeps that fail: of the second in a row, and not again before one succeeds.
#[derive(Default)]
pub(crate) struct Sweeps {
    failed: u32,
}

impl Sweeps {
    /// One has ended. The first failure may be a manifest that was retired and collected while it was looked at, or a
    /// partition that was taken over: the next sweep sees that.
    pub(crate) fn note(&mut self, swept: Result<()>) {
        match swept {
            Ok(()) => self.failed = 0,
            Err(error) => {
                self.failed += 1;
                if self.failed == 2 {
                    tracing::warn!(%error, "retention is not applied: rows of topics stay");
                }
            }
        }
    }
}
