//! What happened in a simulation, line by line: the same for the same seed, or the simulation is none.
//!
//! Every log line of the engine is in it, with its fields, beside faults and what the user saw. Kept is a hash of all
//! lines, and the lines themselves where somebody wants to read them.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::rc::Rc;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use xxhash_rust::xxh3::Xxh3;

use super::clock::Time;
use super::threads::Scheduler;

/// Lines that are kept without being asked for: the last ones before a failure tell most.
const KEPT: usize = 200;
/// Lines of errors that are kept.
const ERRORS_MAX: usize = 50;

/// The trace of one simulation.
pub(super) struct Trace {
    time: Time,
    is_whole: bool,
    hash: RefCell<Xxh3>,
    count: Cell<u64>,
    lines: RefCell<std::collections::VecDeque<String>>,
    errors: RefCell<Vec<String>>,
}

impl Trace {
    /// `is_whole`: all lines are kept.
    pub(super) fn new(time: Time, is_whole: bool) -> Rc<Self> {
        Rc::new(Self {
            time,
            is_whole,
            hash: RefCell::new(Xxh3::new()),
            count: Cell::default(),
            lines: RefCell::default(),
            errors: RefCell::default(),
        })
    }

    /// Notes what happened to somebody.
    pub(super) fn line(&self, who: &str, what: &str) {
        let line = format!("{:>7} {who:<8} {what}", self.time.ms());
        let mut hash = self.hash.borrow_mut();
        hash.update(line.as_bytes());
        hash.update(b"\n");
        self.count.set(self.count.get() + 1);
        let mut lines = self.lines.borrow_mut();
        if !self.is_whole && lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// Notes an error that nobody expects.
    pub(super) fn error(&self, what: String) {
        self.line("", &format!("error: {what}"));
        let mut errors = self.errors.borrow_mut();
        if errors.len() < ERRORS_MAX {
            errors.push(what);
        }
    }

    pub(super) fn take_errors(&self) -> Vec<String> {
        std::mem::take(&mut *self.errors.borrow_mut())
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash.borrow().digest()
    }

    pub(super) fn count(&self) -> u64 {
        self.count.get()
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.lines.borrow().iter().cloned().collect()
    }
}

thread_local! {
    /// What log lines of this thread belong to.
    static CURRENT: RefCell<Option<(Rc<Trace>, Rc<Scheduler>, Vec<String>)>> = const { RefCell::new(None) };
}

/// From now on what is logged in this thread is traced, by the names of processes.
pub(super) fn listen(trace: &Rc<Trace>, scheduler: &Rc<Scheduler>, names: Vec<String>) {
    CURRENT.with_borrow_mut(|current| *current = Some((trace.clone(), scheduler.clone(), names)));
    // For as long as this thread lives.
    std::mem::forget(tracing::subscriber::set_default(Listener));
}

/// The engine's own lines, without spans: threads take turns within them.
struct Listener;

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("qanat") && *metadata.level() <= Level::DEBUG
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let (trace, scheduler, name) = match CURRENT.with_borrow(|current| {
            let (trace, scheduler, names) = current.as_ref()?;
            let name = scheduler.process().and_then(|process| names.get(process).cloned()).unwrap_or_default();
            Some((trace.clone(), scheduler.clone(), name))
        }) {
            Some(known) => known,
            None => return,
        };
        drop(scheduler);
        let mut text = Text(format!("{} {}", event.metadata().level(), event.metadata().target()));
        event.record(&mut text);
        trace.line(&name, &text.0);
        if *event.metadata().level() == Level::ERROR {
            trace.error(format!("{name} logs an error: {}", text.0));
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
