//! Watermarks: how the progress of many inputs becomes the progress of one (design section 6).
//!
//! [`Combiner`] is the rule: the minimum over inputs that are neither idle nor ended, never stepping
//! back (I11). [`SplitWatermarks`] applies it to the splits of a source subtask. A watermark `w` says
//! that no row with a timestamp below `w` is still to come, late rows excepted; [`UNKNOWN`] is −∞ and
//! [`ENDED`] is +∞.
//!
//! Called by the task loops. What must never happen: a combined watermark that steps back, or one that
//! passes an active input.

use std::collections::{BTreeMap, BTreeSet};

use qanat_proto::error::{Error, Result};
use qanat_proto::ids::{KeyGroupRange, SplitId};
use qanat_proto::zoo::{Bug, planted};

/// −∞: nothing is known yet.
pub const UNKNOWN: i64 = i64::MIN;
/// +∞: all input has ended.
pub const ENDED: i64 = i64::MAX;

/// What an input says about itself beside its watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputStatus {
    /// Rows may come at any time; it holds the combined watermark back.
    Active,
    /// Said that nothing comes for now; it holds nothing back.
    Idle,
    /// Not opened, and known to follow the others in time: it holds nothing back, but is not idle.
    Waiting,
    /// Nothing will ever come.
    Ended,
}

/// What changed in a combination: to be passed on, the watermark first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Change {
    /// The new combined watermark, if it rose.
    pub watermark: Option<i64>,
    /// The new combined status, if it changed.
    pub status: Option<InputStatus>,
}

/// Combines the watermarks of several inputs.
///
/// - Active inputs: the minimum over them.
/// - None active, some waiting: the watermark stays where it is.
/// - None active, none waiting, some idle: the highest watermark that any input reached, so that the
///   order in which inputs fall idle does not matter. The combination is idle.
/// - All ended and closed ([`Combiner::close`]): [`ENDED`].
///
/// In every case the result is the maximum of this and what it was before.
#[derive(Clone, Debug)]
pub struct Combiner {
    inputs: Vec<Input>,
    /// (watermark, input) of active inputs: the first holds all back.
    active: BTreeSet<(i64, usize)>,
    idle: usize,
    waiting: usize,
    /// Highest watermark of any input, ends excepted.
    reached: i64,
    watermark: i64,
    status: InputStatus,
    /// No input will be added.
    closed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Input {
    watermark: i64,
    status: InputStatus,
}

impl Combiner {
    /// A combination of `inputs` active channels of which none has a watermark yet, closed. `watermark`
    /// is what the operator had at the restore point (P13), [`UNKNOWN`] for a new one: every channel
    /// opens with it.
    pub fn new(inputs: usize, watermark: i64) -> Self {
        let mut combiner = Self::open(watermark);
        for _ in 0..inputs {
            let _ = combiner.add(InputStatus::Active, UNKNOWN);
        }
        let _ = combiner.close();
        combiner
    }

    /// A combination without inputs to which more may be added.
    pub fn open(watermark: i64) -> Self {
        Self {
            inputs: Vec::new(),
            active: BTreeSet::new(),
            idle: 0,
            waiting: 0,
            reached: watermark,
            watermark,
            status: InputStatus::Idle,
            closed: false,
        }
    }

    /// The combined watermark.
    pub fn watermark(&self) -> i64 {
        self.watermark
    }

    /// The combined status; never `Waiting`.
    pub fn status(&self) -> InputStatus {
        self.status
    }

    /// Adds an input and returns its number. It adopts the combined watermark, as at every opening.
    pub fn add(&mut self, status: InputStatus, watermark: i64) -> (usize, Change) {
        let number = self.inputs.len();
        self.inputs.push(Input { watermark: watermark.max(self.watermark), status });
        self.enter(number);
        (number, self.combine())
    }

    /// Says that no input will be added: from now on the end of all inputs is the end.
    pub fn close(&mut self) -> Change {
        self.closed = true;
        self.combine()
    }

    /// An input's watermark rose. A lower one than before is ignored: the receiver keeps the maximum.
    /// A watermark from an idle input wakes it.
    ///
    /// # Errors
    /// E0503 for an input that does not exist.
    pub fn advance(&mut self, input: usize, watermark: i64) -> Result<Change> {
        self.update(input, |state| {
            state.watermark = state.watermark.max(watermark);
            if state.status != InputStatus::Ended {
                state.status = InputStatus::Active;
            }
        })
    }

    /// An input fell idle, after it flushed what it held. Ignored once it ended.
    ///
    /// # Errors
    /// E0503 for an input that does not exist.
    pub fn idle(&mut self, input: usize) -> Result<Change> {
        self.update(input, |state| {
            if state.status != InputStatus::Ended {
                state.status = InputStatus::Idle;
            }
        })
    }

    /// An input opens or wakes up: it adopts the combined watermark, which is returned for the sender to
    /// adopt before it sends (the handshake of design section 6). Ignored once it ended.
    ///
    /// # Errors
    /// E0503 for an input that does not exist.
    pub fn wake(&mut self, input: usize) -> Result<(i64, Change)> {
        let adopted = self.watermark;
        let change = self.update(input, |state| {
            if !planted(Bug::WatermarkBack) {
                state.watermark = state.watermark.max(adopted);
            }
            if state.status != InputStatus::Ended {
                state.status = InputStatus::Active;
            }
        })?;
        Ok((adopted, change))
    }

    /// An input ended.
    ///
    /// # Errors
    /// E0503 for an input that does not exist.
    pub fn end(&mut self, input: usize) -> Result<Change> {
        self.update(input, |state| state.status = InputStatus::Ended)
    }

    /// Watermark and status of an input.
    pub fn input(&self, input: usize) -> Option<(i64, InputStatus)> {
        self.inputs.get(input).map(|state| (state.watermark, state.status))
    }

    fn update(&mut self, number: usize, change: impl FnOnce(&mut Input)) -> Result<Change> {
        let Some(before) = self.inputs.get(number).copied() else {
            return Err(Error::internal(format!("input {number} has no watermark: there are {}", self.inputs.len())));
        };
        match before.status {
            InputStatus::Active => _ = self.active.remove(&(before.watermark, number)),
            InputStatus::Idle => self.idle -= 1,
            InputStatus::Waiting => self.waiting -= 1,
            InputStatus::Ended => {}
        }
        change(&mut self.inputs[number]);
        self.enter(number);
        Ok(self.combine())
    }

    fn enter(&mut self, number: usize) {
        let state = self.inputs[number];
        // An explicit +∞ that comes before the end says nothing about how far the others are.
        if state.watermark != ENDED {
            self.reached = self.reached.max(state.watermark);
        }
        match state.status {
            InputStatus::Active => _ = self.active.insert((state.watermark, number)),
            InputStatus::Idle => self.idle += 1,
            InputStatus::Waiting => self.waiting += 1,
            InputStatus::Ended => {}
        }
    }

    fn combine(&mut self) -> Change {
        let slowest = if planted(Bug::PassActive) { self.active.last() } else { self.active.first() };
        let (candidate, status) = if let Some((slowest, _)) = slowest {
            (*slowest, InputStatus::Active)
        } else if self.waiting > 0 {
            (self.watermark, InputStatus::Active)
        } else if self.idle > 0 || !self.closed {
            (self.reached, InputStatus::Idle)
        } else {
            (ENDED, InputStatus::Ended)
        };
        let mut change = Change::default();
        if candidate > self.watermark || (candidate < self.watermark && planted(Bug::WatermarkBack)) {
            self.watermark = candidate;
            change.watermark = Some(candidate);
        }
        if status != self.status {
            self.status = status;
            change.status = Some(status);
        }
        change
    }
}

/// The watermark of a source subtask: the combination over the splits it owns.
#[derive(Clone, Debug)]
pub struct SplitWatermarks {
    combiner: Combiner,
    numbers: BTreeMap<SplitId, usize>,
}

impl SplitWatermarks {
    /// For a subtask that has sent `watermark` before (P13); [`UNKNOWN`] for a new one.
    pub fn new(watermark: i64) -> Self {
        Self { combiner: Combiner::open(watermark), numbers: BTreeMap::new() }
    }

    /// Adds a split. One not opened yet holds the subtask at what it has sent (−∞ for a new subtask),
    /// unless `follows_in_time` (`scan.split-order` = `time`). A split that was added is not added again.
    pub fn add(&mut self, id: SplitId, follows_in_time: bool) -> Change {
        if self.numbers.contains_key(&id) {
            return Change::default();
        }
        let status = if follows_in_time { InputStatus::Waiting } else { InputStatus::Active };
        let (number, change) = self.combiner.add(status, UNKNOWN);
        self.numbers.insert(id, number);
        change
    }

    /// Says that no split will be discovered any more.
    pub fn close(&mut self) -> Change {
        self.combiner.close()
    }

    /// A split is opened, at the watermark it had at the restore point.
    ///
    /// # Errors
    /// E0503 for a split that was not added.
    pub fn open(&mut self, id: &SplitId, watermark: Option<i64>) -> Result<Change> {
        let number = self.number(id)?;
        // One that was idle at the restore point stays so until it has rows.
        if self.combiner.input(number).is_some_and(|(_, status)| status == InputStatus::Idle) {
            return Ok(Change::default());
        }
        self.combiner.advance(number, watermark.unwrap_or(UNKNOWN))
    }

    /// A split's watermark rose; wakes an idle split.
    ///
    /// # Errors
    /// E0503 for a split that was not added.
    pub fn advance(&mut self, id: &SplitId, watermark: i64) -> Result<Change> {
        self.combiner.advance(self.number(id)?, watermark)
    }

    /// A split's polls gave nothing for the timeout. A split that is held back is not idle: the caller
    /// does not say so.
    ///
    /// # Errors
    /// E0503 for a split that was not added.
    pub fn idle(&mut self, id: &SplitId) -> Result<Change> {
        self.combiner.idle(self.number(id)?)
    }

    /// A split wakes up; returns the watermark its rows are judged by from now on.
    ///
    /// # Errors
    /// E0503 for a split that was not added.
    pub fn wake(&mut self, id: &SplitId) -> Result<(i64, Change)> {
        self.combiner.wake(self.number(id)?)
    }

    /// A split is finished.
    ///
    /// # Errors
    /// E0503 for a split that was not added.
    pub fn finish(&mut self, id: &SplitId) -> Result<Change> {
        self.combiner.end(self.number(id)?)
    }

    /// The subtask's watermark.
    pub fn watermark(&self) -> i64 {
        self.combiner.watermark()
    }

    /// The subtask's status: idle when all its splits are, ended when all are finished and it is closed.
    pub fn status(&self) -> InputStatus {
        self.combiner.status()
    }

    fn number(&self, id: &SplitId) -> Result<usize> {
        let number = self.numbers.get(id).copied();
        number.ok_or_else(|| Error::internal(format!("split `{id}` has no watermark")))
    }
}

/// The watermark with which a subtask that owns `range` goes on after a restore: the highest that a
/// former owner of one of its key groups had, so that nothing fires twice (P13). At an aligned barrier
/// all subtasks of an operator have the same.
pub fn restored_watermark(watermarks: &[(KeyGroupRange, Option<i64>)], range: KeyGroupRange) -> Option<i64> {
    let overlaps = |other: &KeyGroupRange| other.start < range.end && range.start < other.end;
    if planted(Bug::RestoreWithoutTime) {
        return None;
    }
    watermarks.iter().filter(|(owned, _)| overlaps(owned)).filter_map(|(_, watermark)| *watermark).max()
}

/// The watermark with which an operator without keyed state goes on after a restore: the lowest that any of
/// its subtasks had, since its input is spread anew. No row that is not behind its own split is late by it
/// (P13), and what stands behind a shuffle had no higher one.
pub fn restored_lowest(watermarks: &[(KeyGroupRange, Option<i64>)]) -> Option<i64> {
    watermarks.iter().map(|(_, watermark)| *watermark).min().flatten()
}

#[cfg(test)]
#[path = "watermark_tests.rs"]
mod tests;
