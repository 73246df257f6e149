//! What one subtask has done, counted per batch and per quantum.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use arrow::array::RecordBatch;
use qanat_proto::ids::OperatorId;
use qanat_proto::limits;

use crate::memory::batch_bytes;
use crate::task::channel::Channel;

/// Rows that went one way.
#[derive(Debug, Default)]
pub struct Flow {
    rows: AtomicU64,
    bytes: AtomicU64,
    batches: AtomicU64,
}

impl Flow {
    pub fn add(&self, rows: u64, bytes: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
    }

    pub fn add_batch(&self, rows: &RecordBatch) {
        self.add(rows.num_rows() as u64, batch_bytes(rows) as u64);
    }

    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }
}

/// What a subtask does with its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activity {
    /// It works, or has work to do and waits for a compute thread.
    Busy,
    /// It has nothing to do.
    #[default]
    Idle,
    /// It waits for room: in a queue behind it, or in the job's memory.
    Backpressured,
}

/// Time spent in each activity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    pub busy: Duration,
    pub idle: Duration,
    pub backpressured: Duration,
}

impl Spent {
    fn add(&mut self, activity: Activity, time: Duration) {
        *match activity {
            Activity::Busy => &mut self.busy,
            Activity::Idle => &mut self.idle,
            Activity::Backpressured => &mut self.backpressured,
        } += time;
    }
}

#[derive(Debug)]
struct TimeUse {
    now: Activity,
    since: Duration,
    spent: Spent,
    /// When a window of recent time began, and what was spent by then.
    window: (Duration, Spent),
    /// The shares of the window before: busy and backpressured.
    shares: (f64, f64),
}

/// How long a window of recent time is, at least.
const WINDOW: Duration = Duration::from_secs(1);

/// Counters of one subtask of one chain of operators.
pub struct SubtaskMetrics {
    /// The operator at the root of the chain: its name, and the start of its id, which tells it from its namesakes.
    pub operator: String,
    pub index: u32,
    /// From its sources or from other subtasks.
    pub input: Flow,
    /// To other subtasks.
    pub output: Flow,
    /// To its sinks.
    pub sunk: Flow,
    watermark: AtomicI64,
    time: Mutex<TimeUse>,
    queues: OnceLock<Vec<Weak<Channel>>>,
}

impl SubtaskMetrics {
    /// `now` is monotonic.
    pub fn new(name: &str, id: OperatorId, index: u32, now: Duration) -> Self {
        Self {
            operator: label(name, id),
            index,
            input: Flow::default(),
            output: Flow::default(),
            sunk: Flow::default(),
            watermark: AtomicI64::new(i64::MIN),
            time: Mutex::new(TimeUse {
                now: Activity::Idle,
                since: now,
                spent: Spent::default(),
                window: (now, Spent::default()),
                shares: (0.0, 0.0),
            }),
            queues: OnceLock::new(),
        }
    }

    /// The queues that it takes from.
    pub fn set_queues<'a>(&self, queues: impl IntoIterator<Item = &'a Arc<Channel>>) {
        let _ = self.queues.set(queues.into_iter().map(Arc::downgrade).collect());
    }

    /// From now on it does something else.
    pub fn turn(&self, now: Duration, activity: Activity) {
        // Nobody else waits for it but a scrape.
        let mut time = self.time.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, passed) = (time.now, now.saturating_sub(time.since));
        time.spent.add(before, passed);
        (time.now, time.since) = (activity, now);
    }

    /// How its time was spent until now.
    pub fn spent(&self, now: Duration) -> Spent {
        let time = self.time.lock().unwrap_or_else(PoisonError::into_inner);
        let mut spent = time.spent;
        spent.add(time.now, now.saturating_sub(time.since));
        spent
    }

    /// The shares of its time, over about the last second, in which it was busy and backpressured; to be asked a few
    /// times a second.
    pub fn recently(&self, now: Duration) -> (f64, f64) {
        let spent = self.spent(now);
        let mut time = self.time.lock().unwrap_or_else(PoisonError::into_inner);
        let (began, before) = time.window;
        let passed = now.saturating_sub(began);
        if passed >= WINDOW {
            let share = |spent: Duration, before: Duration| {
                (spent.saturating_sub(before).as_secs_f64() / passed.as_secs_f64()).min(1.0)
            };
            time.shares = (share(spent.busy, before.busy), share(spent.backpressured, before.backpressured));
            time.window = (now, spent);
        }
        time.shares
    }

    pub fn set_watermark(&self, watermark: i64) {
        self.watermark.store(watermark, Ordering::Relaxed);
    }

    /// ms since 1970 UTC; None before the first, and at the end of its input.
    pub fn watermark_ms(&self) -> Option<i64> {
        Some(self.watermark.load(Ordering::Relaxed)).filter(|watermark| ![i64::MIN, i64::MAX].contains(watermark))
    }

    /// What waits in its input queues: bytes, and how full the fullest of them is, from 0 to 1. None for a source.
    pub fn queued(&self) -> Option<(usize, f64)> {
        let queues = self.queues.get()?;
        let mut all = (0, 0.0_f64);
        for (elements, bytes) in queues.iter().filter_map(Weak::upgrade).map(|queue| queue.fill()) {
            let fill = (elements as f64 / limits::CHANNEL_ELEMENTS as f64)
                .max(bytes as f64 / limits::CHANNEL_BYTES as f64)
                .min(1.0);
            all = (all.0 + bytes, all.1.max(fill));
        }
        Some(all)
    }
}

/// What stands for an operator: its name, and the start of its id.
pub fn label(name: &str, id: OperatorId) -> String {
    let id = id.to_string();
    format!("{name}-{}", id.get(..8).unwrap_or(&id))
}

impl std::fmt::Debug for SubtaskMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}]", self.operator, self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_spent_once() {
        let ms = Duration::from_millis;
        let metrics = SubtaskMetrics::new("Calc", OperatorId(7), 0, ms(10));
        metrics.turn(ms(15), Activity::Busy);
        metrics.turn(ms(18), Activity::Backpressured);
        metrics.turn(ms(28), Activity::Busy);
        metrics.turn(ms(29), Activity::Idle);
        let spent = Spent { busy: ms(4), idle: ms(5), backpressured: ms(10) };
        assert_eq!(metrics.spent(ms(29)), spent);
        // What it does now counts already, and is not counted again later.
        assert_eq!(metrics.spent(ms(39)), Spent { idle: ms(15), ..spent });
        metrics.turn(ms(40), Activity::Busy);
        assert_eq!(metrics.spent(ms(40)), Spent { idle: ms(16), ..spent });
        let (busy, backpressured) = metrics.recently(ms(1_010));
        assert!((busy - 0.974).abs() < 1e-9 && (backpressured - 0.01).abs() < 1e-9, "{busy} {backpressured}");
        assert_eq!(metrics.operator, format!("Calc-{}", &OperatorId(7).to_string()[..8]));
    }
}
