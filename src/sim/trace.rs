//! What happened in a simulation, line by line: the same for the same seed, or the simulation is none.
//!
//! Every log line of the engine is in it, with its fields, beside faults and what the user saw. All of them are kept
//! where somebody wants to read them, and the last ones otherwise.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::rc::Rc;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::clock::Time;
use super::threads::Scheduler;

/// Lines that are kept without being asked for: the last ones before a failure tell most.
const KEPT: usize = 200;
/// Lines of errors that are kept.
const ERRORS_MAX: usize = 50;

/// An error that a process logged.
pub(super) struct Unexpected {
    pub(super) at_ms: u64,
    pub(super) who: String,
    pub(super) what: String,
}

/// The trace of one simulation.
pub(super) struct Trace {
    time: Time,
    is_whole: bool,
    lines: RefCell<std::collections::VecDeque<String>>,
    errors: RefCell<Vec<Unexpected>>,
    panics: RefCell<Vec<String>>,
}

impl Trace {
    /// `is_whole`: all lines are kept.
    pub(super) fn new(time: Time, is_whole: bool) -> Rc<Self> {
        Rc::new(Self {
            time,
            is_whole,
            lines: RefCell::default(),
            errors: RefCell::default(),
            panics: RefCell::default(),
        })
    }

    /// Notes what happened to somebody.
    pub(super) fn line(&self, who: &str, what: &str) {
        let line = format!("{:>7} {who:<8} {what}", self.time.ms());
        let mut lines = self.lines.borrow_mut();
        if !self.is_whole && lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// Notes an error that a process logs.
    fn error(&self, who: &str, what: &str) {
        let mut errors = self.errors.borrow_mut();
        if errors.len() < ERRORS_MAX {
            errors.push(Unexpected { at_ms: self.time.ms(), who: who.to_owned(), what: what.to_owned() });
        }
    }

    /// Notes a panic, which nothing excuses.
    pub(super) fn panic(&self, what: String) {
        self.line("", &what);
        self.panics.borrow_mut().push(what);
    }

    pub(super) fn take_errors(&self) -> Vec<Unexpected> {
        std::mem::take(&mut *self.errors.borrow_mut())
    }

    pub(super) fn take_panics(&self) -> Vec<String> {
        std::mem::take(&mut *self.panics.borrow_mut())
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
        let known = CURRENT.with_borrow(|current| {
            let (trace, scheduler, names) = current.as_ref()?;
            let name = scheduler.process().and_then(|process| names.get(process).cloned()).unwrap_or_default();
            Some((trace.clone(), name))
        });
        let Some((trace, name)) = known else { return };
        let mut text = Text(format!("{} {}", event.metadata().level(), event.metadata().target()));
        event.record(&mut text);
        trace.line(&name, &text.0);
        if *event.metadata().level() == Level::ERROR {
            trace.error(&name, &text.0);
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
