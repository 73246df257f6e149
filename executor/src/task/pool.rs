//! The compute pool: one worker per core runs tasks in short quanta.
//!
//! A task is polled; it does a bounded piece of work and says what it waits for. Whoever gives it work
//! (a queue that was filled or drained, a timer, a control message) wakes it. A task runs on at most
//! one worker at a time. A panic ends the task, not the worker.
//!
//! ```text
//!           wake                run              Wait, nothing came meanwhile
//!  IDLE ----------> QUEUED ----------> RUNNING ------------------------------> IDLE
//!                     ^                   | wake while running, or Again
//!                     +---- NOTIFIED <----+
//! ```

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crossbeam::queue::SegQueue;
use qanat_proto::{Code, Error};
use qanat_storage::env::Clock;
use qanat_storage::env::thread::{self, Condvar, JoinHandle};
use tracing::Span;

/// What a task wants after a quantum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There is more to do at once.
    Again,
    /// Nothing to do until somebody wakes it.
    Wait,
    /// Nothing to do until somebody wakes it or this monotonic time.
    WaitUntil(Duration),
    /// It will never have anything to do again.
    Done,
}

/// How long a quantum lasts at most, roughly.
pub const QUANTUM: Duration = Duration::from_millis(1);

/// A unit of scheduling.
pub trait Task: Send {
    /// Works for about a millisecond at most. `waited` is the time from when it could have run until now: next to
    /// nothing on an idle machine.
    fn run(&mut self, waited: Duration) -> Step;
    /// Told once when `run` panicked; the task is then dropped.
    fn on_panic(&mut self, error: Error);
    /// What its log lines stand in; asked for once.
    fn span(&self) -> Span {
        Span::none()
    }
}

const IDLE: u8 = 0;
const QUEUED: u8 = 1;
const RUNNING: u8 = 2;
const NOTIFIED: u8 = 3;
const DONE: u8 = 4;

struct Slot {
    state: AtomicU8,
    /// Since when it is QUEUED, in nanoseconds.
    queued: AtomicU64,
    task: Mutex<Option<Spanned>>,
    shared: Weak<Shared>,
}

struct Spanned {
    span: Span,
    task: Box<dyn Task>,
}

/// Wakes a task. Cheap to clone; does nothing once the task or the pool is gone.
#[derive(Clone)]
pub struct Waker(Weak<Slot>);

impl Waker {
    pub fn wake(&self) {
        if let Some(slot) = self.0.upgrade() {
            slot.wake();
        }
    }
}

impl Slot {
    fn wake(self: &Arc<Self>) {
        let mut state = self.state.load(Ordering::Acquire);
        loop {
            let next = match state {
                IDLE => QUEUED,
                RUNNING => NOTIFIED,
                _ => return,
            };
            match self.state.compare_exchange_weak(state, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) if next == QUEUED => return self.enqueue(),
                Ok(_) => return,
                Err(seen) => state = seen,
            }
        }
    }

    fn enqueue(self: &Arc<Self>) {
        if let Some(shared) = self.shared.upgrade() {
            shared.queue(self);
            shared.notify();
        }
    }
}

struct Shared {
    ready: SegQueue<Arc<Slot>>,
    /// Timers, and the lock under which idle workers sleep.
    timers: Mutex<BinaryHeap<Reverse<Timer>>>,
    wake_up: Condvar,
    stopping: AtomicBool,
    clock: Arc<dyn Clock>,
}

struct Timer {
    at: Duration,
    slot: Weak<Slot>,
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}
impl Eq for Timer {}
impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Timer {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl Shared {
    fn timers(&self) -> MutexGuard<'_, BinaryHeap<Reverse<Timer>>> {
        self.timers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self, slot: &Arc<Slot>) {
        slot.queued.store(nanoseconds(self.clock.monotonic()), Ordering::Relaxed);
        self.ready.push(slot.clone());
    }

    /// Wakes one sleeping worker. Takes the lock, so that a worker between its last look at the queue
    /// and its sleep is not missed.
    fn notify(&self) {
        drop(self.timers());
        self.wake_up.notify_one();
    }

    /// Wakes every task whose time has come; the time of the next timer.
    fn fire_timers(&self, timers: &mut BinaryHeap<Reverse<Timer>>) -> (Vec<Arc<Slot>>, Option<Duration>) {
        let now = self.clock.monotonic();
        let mut due = Vec::new();
        while let Some(Reverse(timer)) = timers.peek() {
            if timer.at > now {
                return (due, Some(timer.at.saturating_sub(now)));
            }
            if let Some(Reverse(timer)) = timers.pop() {
                due.extend(timer.slot.upgrade());
            }
        }
        (due, None)
    }

    fn work(&self) {
        while !self.stopping.load(Ordering::Acquire) {
            match self.ready.pop() {
                Some(slot) => self.run(&slot),
                None => self.sleep(),
            }
        }
    }

    fn sleep(&self) {
        let mut timers = self.timers();
        let (due, next) = self.fire_timers(&mut timers);
        if !due.is_empty() {
            drop(timers);
            due.iter().for_each(Slot::wake);
            return;
        }
        if !self.ready.is_empty() || self.stopping.load(Ordering::Acquire) {
            return;
        }
        // An upper bound on the sleep costs nothing and forgives a missed wake-up.
        let bound = next.unwrap_or(Duration::from_millis(100)).min(Duration::from_millis(100));
        drop(self.wake_up.wait_timeout(&self.timers, timers, bound));
    }

    fn run(&self, slot: &Arc<Slot>) {
        slot.state.store(RUNNING, Ordering::Release);
        let mut guard = thread::lock(&slot.task);
        let Some(Spanned { span, task }) = guard.as_mut() else { return };
        let now = nanoseconds(self.clock.monotonic());
        let waited = Duration::from_nanos(now.saturating_sub(slot.queued.load(Ordering::Relaxed)));
        let step = span.in_scope(|| match catch_unwind(AssertUnwindSafe(|| task.run(waited))) {
            Ok(step) => step,
            Err(payload) => {
                task.on_panic(panic_error(payload.as_ref()));
                Step::Done
            }
        });
        match step {
            Step::Done => {
                *guard = None;
                slot.state.store(DONE, Ordering::Release);
            }
            Step::Again => {
                drop(guard);
                slot.state.store(QUEUED, Ordering::Release);
                self.queue(slot);
            }
            Step::Wait | Step::WaitUntil(_) => {
                drop(guard);
                if let Step::WaitUntil(at) = step {
                    self.timers().push(Reverse(Timer { at, slot: Arc::downgrade(slot) }));
                }
                if slot.state.compare_exchange(RUNNING, IDLE, Ordering::AcqRel, Ordering::Acquire).is_err() {
                    slot.state.store(QUEUED, Ordering::Release);
                    self.queue(slot);
                }
            }
        }
        // Timers must not starve while the queue is never empty.
        let due = {
            let mut timers = self.timers();
            if timers.is_empty() { Vec::new() } else { self.fire_timers(&mut timers).0 }
        };
        due.iter().for_each(Slot::wake);
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What a panic's payload says, as an error.
pub fn panic_error(payload: &(dyn std::any::Any + Send)) -> Error {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "unknown".to_owned());
    Error::new(Code::Panic, format!("a task panicked: {text}"))
}

/// The workers. Dropping the pool stops them after their current quantum.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts `workers` threads.
    ///
    /// # Errors
    /// E0214 if the system gives no more threads.
    pub fn new(workers: usize, clock: Arc<dyn Clock>) -> qanat_proto::Result<Self> {
        let shared = Arc::new(Shared {
            ready: SegQueue::new(),
            timers: Mutex::new(BinaryHeap::new()),
            wake_up: Condvar::new(),
            stopping: AtomicBool::new(false),
            clock,
        });
        let mut pool = Self { shared, workers: Vec::new() };
        for index in 0..workers.max(1) {
            let shared = pool.shared.clone();
            // Expressions are evaluated recursively, as deep as the planner lets them be.
            let worker = thread::spawn_deep(format!("compute-{index}"), move || shared.work())
                .map_err(|e| Error::io("start a compute thread", &e))?;
            pool.workers.push(worker);
        }
        Ok(pool)
    }

    /// Adds a task in state IDLE: it first runs when its waker is used.
    pub fn add(&self, build: impl FnOnce(Waker) -> Box<dyn Task>) -> TaskHandle {
        let slot = Arc::new(Slot {
            state: AtomicU8::new(IDLE),
            queued: AtomicU64::new(0),
            task: Mutex::new(None),
            shared: Arc::downgrade(&self.shared),
        });
        let task = build(Waker(Arc::downgrade(&slot)));
        let task = Spanned { span: task.span(), task };
        *thread::lock(&slot.task) = Some(task);
        TaskHandle(slot)
    }
}

/// Owns a task: when dropped, the task is not run again.
pub struct TaskHandle(Arc<Slot>);

impl TaskHandle {
    pub fn waker(&self) -> Waker {
        Waker(Arc::downgrade(&self.0))
    }
}

impl Drop for TaskHandle {
    fn drop(&mut self) {
        // Waits for a quantum that is running now.
        *thread::lock(&self.0.task) = None;
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        drop(self.shared.timers());
        self.shared.wake_up.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its tasks.
            drop(worker.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use qanat_storage::env::Env;

    use super::*;

    struct Count {
        left: u32,
        done: mpsc::Sender<Result<(), Error>>,
        panics: bool,
    }

    impl Task for Count {
        fn run(&mut self, _: Duration) -> Step {
            assert!(!self.panics, "planted");
            if self.left == 0 {
                self.done.send(Ok(())).expect("the test waits");
                return Step::Done;
            }
            self.left -= 1;
            Step::Again
        }

        fn on_panic(&mut self, error: Error) {
            self.done.send(Err(error)).expect("the test waits");
        }
    }

    #[test]
    fn tasks_run_and_panics_stay_inside() {
        let pool = Pool::new(2, Env::real().clock).expect("threads");
        let (done, results) = mpsc::channel();
        let handles: Vec<_> = (0..20_u32)
            .map(|i| {
                let done = done.clone();
                pool.add(move |_| Box::new(Count { left: i, done, panics: i == 7 }))
            })
            .collect();
        handles.iter().for_each(|handle| handle.waker().wake());
        let results: Vec<_> =
            (0..20).map(|_| results.recv_timeout(Duration::from_secs(20)).expect("every task ends")).collect();
        let failed: Vec<_> = results.into_iter().filter_map(Result::err).collect();
        assert_eq!(failed.len(), 1);
        assert_eq!(failed[0].code(), Code::Panic);
    }

    struct Timed {
        clock: Arc<dyn Clock>,
        until: Option<Duration>,
        done: mpsc::Sender<bool>,
    }

    impl Task for Timed {
        fn run(&mut self, _: Duration) -> Step {
            let now = self.clock.monotonic();
            let until = *self.until.get_or_insert(now + Duration::from_millis(20));
            if now < until {
                return Step::WaitUntil(until);
            }
            self.done.send(true).expect("the test waits");
            Step::Done
        }

        fn on_panic(&mut self, _: Error) {}
    }

    #[test]
    fn timers_wake_tasks() {
        let clock = Env::real().clock;
        let pool = Pool::new(1, clock.clone()).expect("threads");
        let (done, results) = mpsc::channel();
        let handle = pool.add(move |_| Box::new(Timed { clock, until: None, done }));
        handle.waker().wake();
        assert!(results.recv_timeout(Duration::from_secs(20)).expect("the timer fires"));
    }
}
