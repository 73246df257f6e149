//! What clients asked and were told, in order, and whether one register can have answered so: an oracle for tests of a
//! cluster.
//!
//! The register is what several clients write and read at once through whichever coordinator leads, such as the
//! parallelism that a job is to have: `rescale` writes it, `describe` reads it. A write that gets no answer may be done
//! at any time and more than once, or never; one that is tried again by the client may be done twice, since it says
//! what is to be and not what is to happen. Checked is linearizability in this sense: each call takes effect at one
//! point (a write at one or more) between its question and its answer. The search goes forward with all states that are
//! still possible (Lowe 2017, "just-in-time").

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A call's number.
pub type Call = usize;

#[derive(Clone, Copy, Debug)]
enum Event {
    Writes(Call, u32),
    Reads(Call),
    Written(Call),
    HasRead(Call, u32),
    /// It failed: a write may still come about.
    Lost(Call),
}

/// All calls so far. Calls of one client follow each other; those of several overlap.
#[derive(Debug, Default)]
pub struct History(Mutex<Calls>);

#[derive(Debug, Default)]
struct Calls {
    events: Vec<Event>,
    begun: Call,
}

/// What a call that has no answer yet has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Pending {
    Write(u32, bool),
    Read(Option<u32>),
}

/// A state that is possible: what the register holds, and what has come about of pending calls.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    value: u32,
    pending: Vec<(Call, Pending)>,
    /// Of writes that got no answer.
    lost: BTreeSet<u32>,
}

impl History {
    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, event: impl FnOnce(Call) -> Event) -> Call {
        let mut calls = self.calls();
        calls.begun += 1;
        let call = calls.begun;
        calls.events.push(event(call));
        call
    }

    /// A client is about to ask for this value.
    pub fn writes(&self, value: u32) -> Call {
        self.begin(|call| Event::Writes(call, value))
    }

    /// A client is about to ask for the value.
    pub fn reads(&self) -> Call {
        self.begin(Event::Reads)
    }

    /// A write was acknowledged.
    pub fn written(&self, call: Call) {
        self.calls().events.push(Event::Written(call));
    }

    /// A read was answered.
    pub fn has_read(&self, call: Call, value: u32) {
        self.calls().events.push(Event::HasRead(call, value));
    }

    /// A call failed.
    pub fn lost(&self, call: Call) {
        self.calls().events.push(Event::Lost(call));
    }

    /// Answers so far.
    pub fn answers(&self) -> usize {
        self.calls().events.iter().filter(|e| matches!(e, Event::Written(_) | Event::HasRead(..))).count()
    }

    /// The first answer that no order of the calls explains, if the register held this before the first one.
    pub fn violation(&self, initial: u32) -> Option<String> {
        let mut states = BTreeSet::from([State { value: initial, pending: Vec::new(), lost: BTreeSet::new() }]);
        let calls = self.calls();
        for (number, event) in calls.events.iter().enumerate() {
            states = match *event {
                Event::Writes(call, value) => begin(states, call, Pending::Write(value, false)),
                Event::Reads(call) => begin(states, call, Pending::Read(None)),
                Event::Written(call) => end(spread(states), call, |pending| matches!(pending, Pending::Write(_, true))),
                Event::HasRead(call, told) => end(spread(states), call, |pending| pending == Pending::Read(Some(told))),
                Event::Lost(call) => lose(states, call),
            };
            if states.is_empty() {
                let told = calls.events.iter().take(number + 1).map(|event| format!("{event:?}")).collect::<Vec<_>>();
                return Some(format!(
                    "no order of the calls explains the answer of event {number}, {event:?}: {}",
                    told.join(", ")
                ));
            }
        }
        None
    }
}

fn begin(states: BTreeSet<State>, call: Call, pending: Pending) -> BTreeSet<State> {
    let begun = states.into_iter().map(|mut state| {
        state.pending.push((call, pending));
        state
    });
    begun.collect()
}

/// All states that pending and lost calls can lead to.
fn spread(states: BTreeSet<State>) -> BTreeSet<State> {
    let mut found = states.clone();
    let mut open: Vec<State> = states.into_iter().collect();
    let mut reach = |next: State, open: &mut Vec<State>| {
        if found.insert(next.clone()) {
            open.push(next);
        }
    };
    while let Some(state) = open.pop() {
        for index in 0..state.pending.len() {
            let mut next = state.clone();
            let (_, pending) = &mut next.pending[index];
            match pending {
                Pending::Write(value, is_done) => {
                    *is_done = true;
                    next.value = *value;
                }
                Pending::Read(told @ None) => *told = Some(next.value),
                Pending::Read(Some(_)) => continue,
            }
            reach(next, &mut open);
        }
        for value in &state.lost {
            reach(State { value: *value, ..state.clone() }, &mut open);
        }
    }
    found
}

fn end(states: BTreeSet<State>, call: Call, fits: impl Fn(Pending) -> bool) -> BTreeSet<State> {
    let ended = states.into_iter().filter_map(|mut state| {
        let index = state.pending.iter().position(|(known, _)| *known == call)?;
        let (_, pending) = state.pending.remove(index);
        fits(pending).then_some(state)
    });
    ended.collect()
}

/// A read that was not answered says nothing; a write may come about for ever.
fn lose(states: BTreeSet<State>, call: Call) -> BTreeSet<State> {
    let left = states.into_iter().map(|mut state| {
        let index = state.pending.iter().position(|(known, _)| *known == call);
        if let Some((_, Pending::Write(value, _))) = index.map(|index| state.pending.remove(index)) {
            state.lost.insert(value);
        }
        state
    });
    left.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_that_is_behind_is_found() {
        let history = History::default();
        let write = history.writes(2);
        history.written(write);
        let read = history.reads();
        history.has_read(read, 1);
        assert!(history.violation(1).is_some_and(|told| told.contains("event 3")));
    }

    #[test]
    fn calls_at_the_same_time_come_in_any_order() {
        let history = History::default();
        let (write, early, late) = (history.writes(2), history.reads(), history.reads());
        history.has_read(late, 2);
        history.has_read(early, 1);
        history.written(write);
        assert_eq!(history.violation(1), None);
        // But not back: whoever asks after the answer sees it.
        let read = history.reads();
        history.has_read(read, 1);
        assert!(history.violation(1).is_some());
    }

    #[test]
    fn a_write_without_an_answer_may_come_late_or_never() {
        for told in [1, 2] {
            let history = History::default();
            let write = history.writes(2);
            history.lost(write);
            let read = history.reads();
            history.has_read(read, 1);
            let read = history.reads();
            history.has_read(read, told);
            assert_eq!(history.violation(1), None);
            let read = history.reads();
            history.has_read(read, 3);
            assert!(history.violation(1).is_some(), "nobody wrote that");
        }
    }

    #[test]
    fn a_write_that_is_tried_again_may_come_twice() {
        let history = History::default();
        let slow = history.writes(2);
        let read = history.reads();
        history.has_read(read, 2);
        let quick = history.writes(3);
        history.written(quick);
        let read = history.reads();
        history.has_read(read, 2);
        history.written(slow);
        assert_eq!(history.violation(1), None);
    }
}
