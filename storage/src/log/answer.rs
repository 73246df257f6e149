//! The answer to an append, handed from the writer to whoever waits for it.
//!
//! To wake a thread costs the writer more than to accept its frame. So it wakes one of those whose answers
//! are there, and that one wakes two others, and so on, while the writer is at the next group.

use std::sync::{Arc, Mutex};

use qanat_proto::error::{Error, Result};

use super::lock;
use super::writer::Appended;
use crate::env::thread::{self, Thread};

/// The writer's end. Dropped without an answer, it says that the writer is gone.
pub(super) struct Reply(Arc<Slot>);

/// The end of whoever appends.
pub(super) struct Answer(Arc<Slot>);

type Slot = Mutex<State>;

#[derive(Default)]
struct State {
    answer: Option<Result<Appended>>,
    is_answered: bool,
    /// Who sleeps until the answer is there.
    sleeper: Option<Thread>,
    /// Whom the sleeper wakes when it is awake itself.
    others: Vec<Arc<Slot>>,
}

/// Sleepers whose answers are there.
#[derive(Default)]
pub(super) struct Sleepers(Vec<Arc<Slot>>);

pub(super) fn pair() -> (Reply, Answer) {
    let slot = Arc::<Slot>::default();
    (Reply(Arc::clone(&slot)), Answer(slot))
}

impl Reply {
    /// Answers. Whoever sleeps for it is to be woken with the `sleepers`.
    pub(super) fn put(self, answer: Result<Appended>, sleepers: &mut Sleepers) {
        let mut state = lock(&self.0);
        state.answer = Some(answer);
        state.is_answered = true;
        if state.sleeper.is_some() {
            sleepers.0.push(Arc::clone(&self.0));
        }
    }

    /// Answers one alone.
    pub(super) fn send(self, answer: Result<Appended>) {
        let mut sleepers = Sleepers::default();
        self.put(answer, &mut sleepers);
        sleepers.wake();
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        if !state.is_answered {
            state.answer = Some(Err(gone()));
            state.is_answered = true;
            state.sleeper.iter().for_each(Thread::unpark);
        }
    }
}

impl Answer {
    /// The answer, if it is there.
    pub(super) fn take(&self) -> Option<Result<Appended>> {
        let mut state = lock(&self.0);
        let answer = state.answer.take()?;
        let mut others = std::mem::take(&mut state.others);
        drop(state);
        let half = others.split_off(others.len() / 2);
        Sleepers(others).wake();
        Sleepers(half).wake();
        Some(answer)
    }

    /// Sleeps until the answer is there.
    pub(super) fn wait(&self) -> Result<Appended> {
        loop {
            if let Some(answer) = self.take() {
                return answer;
            }
            {
                let mut state = lock(&self.0);
                if state.is_answered {
                    continue;
                }
                state.sleeper = Some(thread::current());
            }
            // May return early: the loop looks again.
            thread::park();
        }
    }
}

impl Sleepers {
    /// Wakes one, and tells it to wake the others.
    pub(super) fn wake(mut self) {
        while let Some(first) = self.0.pop() {
            let mut state = lock(&first);
            // One that woke by itself has taken its answer, and would not look again.
            if state.answer.is_some()
                && let Some(sleeper) = state.sleeper.clone()
            {
                state.others = self.0;
                drop(state);
                sleeper.unpark();
                return;
            }
        }
    }
}

pub(super) fn gone() -> Error {
    Error::internal("the log writer of this disk has ended")
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    fn appended(offset: u64) -> Result<Appended> {
        Ok(Appended { offsets: offset..offset + 1, was_done: false })
    }

    #[test]
    fn everybody_gets_an_answer_asleep_or_not() {
        for count in [1, 2, 3, 7, 16] {
            let begun = Barrier::new(count + 1);
            let (replies, answers): (Vec<_>, Vec<_>) = (0..count).map(|_| pair()).unzip();
            std::thread::scope(|scope| {
                let begun = &begun;
                let waiting: Vec<_> = answers
                    .into_iter()
                    .map(|answer| {
                        scope.spawn(move || {
                            begun.wait();
                            answer.wait()
                        })
                    })
                    .collect();
                begun.wait();
                let mut sleepers = Sleepers::default();
                for (offset, reply) in (0..).zip(replies) {
                    reply.put(appended(offset), &mut sleepers);
                }
                sleepers.wake();
                for (offset, waiting) in (0..).zip(waiting) {
                    assert_eq!(waiting.join().expect("no panic").expect("an answer").offsets.start, offset);
                }
            });
        }
    }

    #[test]
    fn a_writer_that_is_gone_is_an_answer() {
        let (reply, answer) = pair();
        assert!(answer.take().is_none());
        let waiting = std::thread::spawn(move || answer.wait());
        drop(reply);
        assert!(waiting.join().expect("no panic").is_err());
        let (reply, answer) = pair();
        reply.send(appended(3));
        assert!(answer.take().is_some_and(|answer| answer.is_ok()));
    }
}
