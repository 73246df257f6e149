//! When changes that wait to be told together are told at the latest.

/// The clock of an operator that tells of changes now and then (`table.exec.mini-batch.allow-latency`).
#[derive(Debug)]
pub(crate) struct MiniBatch {
    interval_ms: i64,
    now_ms: i64,
    deadline: Option<i64>,
}

impl MiniBatch {
    pub(crate) fn new(interval_ms: u64) -> Self {
        Self { interval_ms: i64::try_from(interval_ms).unwrap_or(i64::MAX / 2), now_ms: i64::MIN, deadline: None }
    }

    /// Something waits.
    pub(crate) fn begin(&mut self) {
        if self.deadline.is_none() && self.now_ms > i64::MIN {
            self.deadline = Some(self.now_ms.saturating_add(self.interval_ms));
        }
    }

    /// All is told.
    pub(crate) fn end(&mut self) {
        self.deadline = None;
    }

    /// It is `now_ms`; whether to tell.
    pub(crate) fn is_due(&mut self, now_ms: i64) -> bool {
        self.now_ms = now_ms;
        self.deadline.is_some_and(|deadline| now_ms >= deadline)
    }

    /// The time is wanted with each batch, and a timer once something waits.
    pub(crate) fn next_timer(&self) -> Option<i64> {
        self.deadline.or(Some(i64::MAX))
    }
}
