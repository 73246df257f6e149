//! The log under dying owners and a disk that loses what was not synced (P11, P12, I8): processes that share one folder,
//! each interrupted by another one in the middle of what it does. The log is the engine's own, on the simulated disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use qanat_proto::ids::{Epoch, Generation, JobId, OperatorId, SubtaskId, Token};
use qanat_proto::names::{Name, Origin};
use qanat_proto::{Code, Error, Result};
use qanat_storage::env::Env;
use qanat_storage::env::sim::{Interrupt, Random, SimEnv};
use qanat_storage::log::{
    GroupCommit, LogOptions, LogReader, OwnerToken, Retention, StagedHandle, Start, Topic, TopicSpec, Topics,
};

use super::walk::{Model, Outcome, Violation};

/// Segments of a few frames, so that they roll.
const SMALL: LogOptions = LogOptions { segment_bytes: 8 << 10, allocate_bytes: 1 << 10, roll_after_ms: None };
const FOLDER: &str = "/topics";
const PROCESSES: usize = 3;
const JOB: JobId = JobId(7 << 96);

/// What may happen next. Numbers choose among what is there, and wrap around.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// A process stages the rows of the next epoch, in so many pieces.
    Stage {
        process: usize,
        pieces: usize,
    },
    /// A process commits the oldest epoch that is not done: as the owner that it is, or as a new one.
    Commit {
        process: usize,
        as_new: bool,
    },
    /// The same, with others that do so just before the n-th operations of the first: as new owners, or as the owners
    /// that they are.
    Interrupted {
        process: usize,
        as_new: bool,
        by: [Intruder; 2],
    },
    /// The same, and somebody reads in the middle of it; then the power fails before the n-th operation.
    PowerFails {
        process: usize,
        as_new: bool,
        at: u64,
        read: u64,
    },
    /// The same, and then the process dies before the n-th operation, and no other one.
    Dies {
        process: usize,
        as_new: bool,
        at: u64,
    },
    /// Somebody who has read so far goes on, in the middle of a commit.
    Read {
        process: usize,
        at: u64,
    },
    /// The same, while others commit just before the n-th operations of the reader.
    ReadSlowly {
        by: [Intruder; 2],
    },
    /// So many bytes more, and the disk is full, until there is room again.
    Fill {
        spare: u64,
    },
    Room,
    /// One that was replaced commits once more what is not done.
    Late {
        process: usize,
    },
    /// The owner commits an epoch that is done, as after a restore.
    Again {
        which: usize,
    },
    /// A process dies and another takes its place.
    Restart {
        process: usize,
    },
    /// The n-th sync of a file from now on fails: some of its bytes are lost, and the next one says nothing of it.
    SyncFails {
        at: u64,
    },
    /// All but so many bytes go, by the owner or by one that was, while another process commits in the middle of it.
    Retain {
        process: usize,
        bytes: u64,
        by: Intruder,
    },
}

/// Who acts in the middle of what another one does.
#[derive(Clone, Copy, Debug)]
pub struct Intruder {
    process: usize,
    as_new: bool,
    /// Before this operation.
    at: u64,
}

struct Process {
    topic: Arc<Topic>,
    interrupt: Arc<Interrupt>,
    /// The token that it was given last.
    owner: u64,
}

/// What was staged for an epoch.
#[derive(Clone)]
struct Staged {
    handle: StagedHandle,
    rows: Vec<i64>,
    is_done: bool,
}

/// See the module.
pub struct LogWorld {
    sim: SimEnv,
    processes: Vec<Process>,
    /// The newest token that is known to have begun to own the partition, and whose it is.
    owner: u64,
    owned_by: usize,
    given: u64,
    /// Names never collide (P3): one for each attempt.
    staged: u64,
    epochs: BTreeMap<Epoch, Staged>,
    next_row: i64,
    /// Rows that retention took.
    gone: BTreeSet<i64>,
    follower: Arc<Mutex<Follower>>,
    reading: Arc<Interrupt>,
    /// What any reader has seen.
    shown: BTreeSet<i64>,
}

/// A process that reads what the others write, while they do. It goes on where it was.
#[derive(Default)]
struct Follower {
    at: Option<(Arc<Topic>, LogReader)>,
    /// Of the next row.
    offset: u64,
    /// In the order in which they came.
    rows: Vec<i64>,
    /// What it could not read.
    failure: Option<Error>,
}

impl Follower {
    fn read_on(&mut self, env: &Env) {
        match self.try_read(env) {
            Ok(()) => {}
            Err(error) if error.code() == Code::OffsetGone && error.message().contains("gone") => {
                // Retention overtook it.
                *self = Self::default();
            }
            Err(error) => self.failure = Some(error),
        }
    }

    fn try_read(&mut self, env: &Env) -> Result<()> {
        if self.at.is_none() {
            // As one of the cluster's processes.
            let topics = Topics::open_shared_with(env.clone(), FOLDER, GroupCommit::inline(), SMALL)?;
            let topic = topics.topic(&Name::new("t")?)?;
            let from = if self.offset == 0 { Start::Earliest } else { Start::Offset(self.offset) };
            let reader = topic.read_from(0, from)?;
            self.at = Some((topic, reader));
        }
        let Some((topic, reader)) = &mut self.at else { return Ok(()) };
        topic.partition(0)?.refresh()?;
        while let Some(batch) = reader.poll()? {
            self.rows.extend(batch.rows.column(0).as_primitive::<Int64Type>().values());
            self.offset = reader.next_offset();
        }
        Ok(())
    }
}

/// Nobody knows what became of it, and whoever comes next finds out: a sync failed, a taker swept the draft of another one
/// away, or the disk is full.
fn is_unknown(error: &Error) -> bool {
    matches!(error.code(), Code::FsyncFailed | Code::PathNotFound | Code::DiskFull)
}

type Done = Arc<Mutex<Option<Result<bool>>>>;

fn rows(of: impl IntoIterator<Item = i64>) -> RecordBatch {
    let ids: Vec<i64> = of.into_iter().collect();
    let texts: Vec<String> = ids.iter().map(|id| format!("row {id}")).collect();
    let columns: [(&str, ArrayRef); 2] =
        [("id", Arc::new(Int64Array::from(ids))), ("text", Arc::new(StringArray::from(texts)))];
    RecordBatch::try_from_iter(columns).expect("columns of one length")
}

/// Whether rows were appended by this commit.
fn commit(topic: &Arc<Topic>, handle: &StagedHandle, owner: u64) -> Result<bool> {
    let done = topic.commit_owned(std::slice::from_ref(handle), OwnerToken(owner))?;
    Ok(done.iter().any(|committed| !committed.appended.was_done))
}

fn start(sim: &SimEnv) -> Result<Process, Violation> {
    sim.disk.mend();
    sim.disk.set_capacity(None);
    let interrupt = Arc::<Interrupt>::default();
    let env = interrupt.env(&sim.env);
    let topics = Topics::open_shared_with(env, FOLDER, GroupCommit::inline(), SMALL).map_err(Violation::from)?;
    let topic = topics.get_or_create(&name()?, TopicSpec::new(1)).map_err(Violation::from)?;
    Ok(Process { topic, interrupt, owner: 0 })
}

fn name() -> Result<Name, Violation> {
    Name::new("t").map_err(Violation::from)
}

impl LogWorld {
    /// What it has come to.
    pub fn figures(&self) -> Vec<(&'static str, u64)> {
        vec![("epochs", self.epochs.len() as u64), ("rows", self.next_row as u64), ("owners", self.given)]
    }

    /// All rows that a process sees which has just come.
    fn visible(&self) -> Result<Vec<i64>, Violation> {
        loop {
            match self.look() {
                // A sync that is to fail was its own.
                Err(error) if error.code() == Code::FsyncFailed => {}
                looked => return looked.map_err(|e| Violation(format!("I8: {e}"))),
            }
        }
    }

    fn look(&self) -> Result<Vec<i64>> {
        let topic = Topics::open_read_only(self.sim.env.clone(), FOLDER).topic(&Name::new("t")?)?;
        let mut reader = topic.read_from(0, Start::Earliest)?;
        let mut all = Vec::new();
        while let Some(batch) = reader.poll()? {
            let ids = batch.rows.column(0).as_primitive::<Int64Type>().values();
            let texts = batch.rows.column(1).as_string::<i32>();
            for (id, text) in ids.iter().zip(texts) {
                if text != Some(format!("row {id}").as_str()) {
                    return Err(Error::new(Code::CorruptLog, format!("row {id} reads `{text:?}`")));
                }
            }
            all.extend(ids);
        }
        Ok(all)
    }

    /// What was acknowledged, and what anybody has read, is there, once; what was not is there whole or not at all.
    fn check(&mut self) -> Outcome {
        let visible = self.visible()?;
        self.check_follower(&visible)?;
        let mut seen = BTreeSet::new();
        if let Some(row) = visible.iter().find(|row| !seen.insert(**row)) {
            return Err(Violation(format!("P12: row {row} is there twice")));
        }
        for (epoch, staged) in &self.epochs {
            let there = staged.rows.iter().filter(|row| seen.contains(row)).count();
            let taken = staged.rows.iter().filter(|row| self.gone.contains(row)).count();
            if staged.is_done && there + taken < staged.rows.len() {
                return Err(Violation(format!(
                    "I8: epoch {epoch} was acknowledged, and {there} of its rows are there"
                )));
            }
            if !staged.is_done && there > 0 && there < staged.rows.len() {
                return Err(Violation(format!(
                    "P11: {there} rows of epoch {epoch} are there, of {}",
                    staged.rows.len()
                )));
            }
        }
        Ok(())
    }

    /// Whoever reads on reads every row once, in their order, and none that is gone again later.
    fn check_follower(&mut self, visible: &[i64]) -> Outcome {
        let mut follower = self.follower.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = follower.failure.take() {
            return Err(Violation(format!("I8: a reader: {error}")));
        }
        self.shown.extend(&follower.rows);
        let is_there: BTreeSet<i64> = visible.iter().copied().collect();
        // Until it is known where a segment ends, whoever comes anew may see less.
        let lost = self.shown.iter().find(|row| !is_there.contains(row) && !self.gone.contains(row));
        if let Some(row) = lost.filter(|_| self.undone().is_none()) {
            return Err(Violation(format!("P11: row {row} was read and is not there")));
        }
        let left: Vec<i64> = follower.rows.iter().filter(|row| is_there.contains(row)).copied().collect();
        let from = left.first().and_then(|first| visible.iter().position(|row| row == first)).unwrap_or(0);
        if visible.get(from..from + left.len()) != Some(left.as_slice()) {
            return Err(Violation(format!("I8: a reader saw {left:?} of {visible:?}")));
        }
        Ok(())
    }

    /// Lets somebody read in the middle of what `process` is about to do.
    fn read_within(&self, process: usize, at: u64) {
        let (follower, env) = (Arc::clone(&self.follower), self.reading.env(&self.sim.env));
        let read = move || follower.lock().unwrap_or_else(PoisonError::into_inner).read_on(&env);
        self.processes[process % PROCESSES].interrupt.arm(at, read);
    }

    fn undone(&self) -> Option<Epoch> {
        self.epochs.iter().find(|(_, staged)| !staged.is_done).map(|(epoch, _)| *epoch)
    }

    fn token(&mut self, process: usize, as_new: bool) -> u64 {
        if as_new || self.processes[process].owner == 0 {
            self.given += 1;
            self.processes[process].owner = self.given;
        }
        self.processes[process].owner
    }

    /// What the answer to a commit says. `was_replaced`: another one owned the partition before it began.
    fn note(&mut self, epoch: Epoch, process: usize, owner: u64, result: Result<bool>, was_replaced: bool) -> Outcome {
        match result {
            Ok(appended) => {
                if was_replaced && appended {
                    return Err(Violation(format!("I4: owner {owner} appends, and {} owns the log", self.owner)));
                }
                if owner > self.owner {
                    (self.owner, self.owned_by) = (owner, process);
                }
                if let Some(staged) = self.epochs.get_mut(&epoch) {
                    staged.is_done = true;
                }
                Ok(())
            }
            Err(error) if error.code() == Code::Fenced => Ok(()),
            Err(error) if is_unknown(&error) => Ok(()),
            Err(error) => Err(Violation(format!("I8: {error}"))),
        }
    }

    fn commit(&mut self, process: usize, as_new: bool) -> Outcome {
        let process = process % PROCESSES;
        let Some(epoch) = self.undone() else { return Ok(()) };
        let owner = self.token(process, as_new);
        let was_replaced = owner < self.owner;
        let result = commit(&self.processes[process].topic, &self.epochs[&epoch].handle, owner);
        self.note(epoch, process, owner, result, was_replaced)
    }

    /// Lets `intruder` commit in the middle of what `process` is about to do, or the reader if it is none of them.
    fn arm(&mut self, process: usize, intruder: Intruder) -> Option<Intrusion> {
        let by = intruder.process % PROCESSES;
        let epoch = self.undone().filter(|_| by != process)?;
        let interrupt = self.processes.get(process).map_or(&self.reading, |process| &process.interrupt).clone();
        let owner = self.token(by, intruder.as_new);
        let was_replaced = owner < self.owner;
        let (done, topic, handle) =
            (Done::default(), self.processes[by].topic.clone(), self.epochs[&epoch].handle.clone());
        let note = done.clone();
        let act = move || *note.lock().unwrap_or_else(PoisonError::into_inner) = Some(commit(&topic, &handle, owner));
        interrupt.arm(intruder.at, act);
        Some(Intrusion { epoch, by, owner, was_replaced, done })
    }

    /// What became of it.
    fn settle(&mut self, intrusions: Vec<Intrusion>) -> Outcome {
        for Intrusion { epoch, by, owner, was_replaced, done } in intrusions {
            let Some(result) = done.lock().unwrap_or_else(PoisonError::into_inner).take() else { continue };
            self.note(epoch, by, owner, result, was_replaced)?;
        }
        Ok(())
    }

    fn interrupted(&mut self, process: usize, as_new: bool, by: [Intruder; 2]) -> Outcome {
        let process = process % PROCESSES;
        let Some(epoch) = self.undone() else { return Ok(()) };
        let owner = self.token(process, as_new);
        let was_replaced = owner < self.owner;
        let handle = self.epochs[&epoch].handle.clone();
        let intrusions = by.into_iter().filter_map(|intruder| self.arm(process, intruder)).collect();
        let result = commit(&self.processes[process].topic, &handle, owner);
        self.processes[process].interrupt.disarm();
        self.note(epoch, process, owner, result, was_replaced)?;
        self.settle(intrusions)
    }

    /// Every process dies, and what was not synced is lost in part.
    fn lose_power(&mut self) -> Outcome {
        self.sim.disk.crash_arbitrary();
        {
            // What it could not read without power says nothing.
            let mut follower = self.follower.lock().unwrap_or_else(PoisonError::into_inner);
            (follower.at, follower.failure) = (None, None);
        }
        let sim = self.sim.clone();
        for process in &mut self.processes {
            *process = start(&sim)?;
        }
        Ok(())
    }

    fn stage(&mut self, process: usize, pieces: usize) -> Outcome {
        let topic = self.processes[process % PROCESSES].topic.clone();
        let epoch = self.epochs.keys().next_back().map_or(Epoch(1), |last| last.next());
        self.staged += 1;
        let token = Token { job: JOB, generation: Generation(self.staged) };
        let subtask = SubtaskId { operator: OperatorId(3), index: 0 };
        let mut staging = topic.stage(Origin { token, epoch, subtask }, 0);
        let mut all = Vec::new();
        let stage = |staging: &mut qanat_storage::log::Staging, all: &mut Vec<i64>, from: i64| -> Result<()> {
            for piece in 0..pieces as i64 {
                let ids: Vec<i64> = (from + piece * 20..from + (piece + 1) * 20).collect();
                staging.write(0, &rows(ids.iter().copied()), None)?;
                all.extend(ids);
            }
            Ok(())
        };
        let staged = stage(&mut staging, &mut all, self.next_row).and_then(|()| staging.prepare());
        match staged {
            Ok(handle) => {
                self.next_row += all.len() as i64;
                self.epochs.insert(epoch, Staged { handle, rows: all, is_done: false });
                Ok(())
            }
            Err(error) if is_unknown(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn restart(&mut self, process: usize) -> Outcome {
        let process = process % PROCESSES;
        self.processes[process] = start(&self.sim)?;
        Ok(())
    }

    fn retain(&mut self, process: usize, bytes: u64, by: Intruder) -> Outcome {
        let process = process % PROCESSES;
        let topic = self.processes[process].topic.clone();
        let partition = topic.partition(0).map_err(Violation::from)?;
        if partition.owner().is_none() {
            return Ok(());
        }
        let intrusions: Vec<Intrusion> = self.arm(process, by).into_iter().collect();
        let retained = partition.retain(&Retention { bytes: Some(bytes), ..Retention::default() });
        self.processes[process].interrupt.disarm();
        let after: BTreeSet<i64> = self.visible()?.into_iter().collect();
        self.settle(intrusions)?;
        // What is not acknowledged may be shown now and not then.
        let done = self.epochs.values().filter(|staged| staged.is_done).flat_map(|staged| &staged.rows);
        let before: Vec<i64> = done.filter(|row| !self.gone.contains(row)).copied().collect();
        let gone = before.iter().take_while(|row| !after.contains(row)).count();
        if let Some(row) = before[gone..].iter().find(|row| !after.contains(row)) {
            return Err(Violation(format!("I8: row {row} is gone, and rows before it are there")));
        }
        self.gone.extend(&before[..gone]);
        if gone == before.len() {
            // Rows that nobody was told of may have been in the log, and gone with the others.
            let undone = self.undone().into_iter().flat_map(|epoch| &self.epochs[&epoch].rows);
            self.gone.extend(undone.filter(|row| !after.contains(row)));
        }
        match retained {
            Ok(_) => Ok(()),
            Err(error) if is_unknown(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Something that another process does in the middle of a step.
struct Intrusion {
    epoch: Epoch,
    by: usize,
    owner: u64,
    was_replaced: bool,
    done: Done,
}

impl Model for LogWorld {
    type Action = Step;
    type Choices = Vec<(usize, u8)>;

    fn new(random: &Random) -> Self {
        let sim = Env::sim(random.draw());
        let processes = (0..PROCESSES).map(|_| start(&sim).expect("an empty folder")).collect();
        Self {
            sim,
            processes,
            owner: 0,
            owned_by: 0,
            given: 0,
            staged: 0,
            epochs: BTreeMap::new(),
            next_row: 0,
            gone: BTreeSet::new(),
            follower: Arc::default(),
            reading: Arc::default(),
            shown: BTreeSet::new(),
        }
    }

    fn choices(random: &Random) -> Self::Choices {
        let mut faults = |kind: u8| ([0, 1, 2, 4][random.index(4)], kind);
        let mut choices = vec![(8, 0), (8, 1)];
        choices.extend((2..14).map(&mut faults));
        choices
    }

    fn steps(_: &Random) -> usize {
        40
    }

    fn choose(&self, choices: &Self::Choices, random: &Random) -> Step {
        let kind = random.weighted(choices);
        let mut n = || random.index(1 << 12);
        let at = 1 + n() as u64 % 48;
        let mut apart = 0;
        let mut intruder = |n: &mut dyn FnMut() -> usize| {
            // Two of them often come close to each other.
            apart = if n().is_multiple_of(2) { apart + n() as u64 % 4 } else { 1 + n() as u64 % 96 };
            Intruder { process: n(), as_new: !n().is_multiple_of(3), at: apart.max(1) }
        };
        match kind {
            0 => Step::Stage { process: n(), pieces: 1 + n() % 3 },
            1 => Step::Commit { process: n(), as_new: n() % 4 == 0 },
            2 => Step::Interrupted { process: n(), as_new: n() % 2 == 0, by: [intruder(&mut n), intruder(&mut n)] },
            3 => Step::PowerFails { process: n(), as_new: n() % 3 == 0, at, read: 1 + n() as u64 % at },
            4 => Step::Late { process: n() },
            5 => Step::Again { which: n() },
            6 => Step::Restart { process: n() },
            7 => Step::SyncFails { at: 1 + at % 8 },
            8 => Step::Dies { process: n(), as_new: n() % 3 == 0, at },
            9 => Step::Read { process: n(), at },
            12 => Step::ReadSlowly { by: [intruder(&mut n), intruder(&mut n)] },
            10 => Step::Fill { spare: n() as u64 * 16 },
            11 => Step::Room,
            _ => Step::Retain { process: n(), bytes: 4_000 + n() as u64 * 4, by: intruder(&mut n) },
        }
    }

    fn step(&mut self, action: &Step) -> Outcome {
        match *action {
            Step::Stage { process, pieces } => {
                // Epochs are staged one after the other, and committed in that order (P4).
                if self.undone().is_none() { self.stage(process, pieces) } else { Ok(()) }
            }
            Step::Commit { process, as_new } => self.commit(process, as_new),
            Step::Interrupted { process, as_new, by } => self.interrupted(process, as_new, by),
            Step::PowerFails { process, as_new, at, read } => {
                let process = process % PROCESSES;
                self.read_within(process, read);
                self.sim.disk.cut_power_after(at);
                if let Some(epoch) = self.undone() {
                    let owner = self.token(process, as_new);
                    let was_replaced = owner < self.owner;
                    let result = commit(&self.processes[process].topic, &self.epochs[&epoch].handle, owner);
                    // Without power anything may be said.
                    if result.is_ok() {
                        self.note(epoch, process, owner, result, was_replaced)?;
                    }
                }
                self.lose_power()
            }
            Step::Dies { process, as_new, at } => {
                let process = process % PROCESSES;
                self.processes[process].interrupt.die_after(at);
                if let Some(epoch) = self.undone() {
                    let owner = self.token(process, as_new);
                    let was_replaced = owner < self.owner;
                    let result = commit(&self.processes[process].topic, &self.epochs[&epoch].handle, owner);
                    // A dead process says nothing.
                    if !self.processes[process].interrupt.is_dead() {
                        self.note(epoch, process, owner, result, was_replaced)?;
                    }
                }
                self.restart(process)
            }
            Step::Read { process, at } => {
                self.read_within(process, at);
                self.commit(process, false)?;
                self.processes[process % PROCESSES].interrupt.disarm();
                Ok(())
            }
            Step::ReadSlowly { by } => {
                let intrusions = by.into_iter().filter_map(|intruder| self.arm(PROCESSES, intruder)).collect();
                let env = self.reading.env(&self.sim.env);
                self.follower.lock().unwrap_or_else(PoisonError::into_inner).read_on(&env);
                self.reading.disarm();
                self.settle(intrusions)
            }
            Step::Fill { spare } => {
                self.sim.disk.set_capacity(Some(self.sim.disk.used() + spare));
                Ok(())
            }
            Step::Room => {
                self.sim.disk.set_capacity(None);
                Ok(())
            }
            Step::Late { process } => {
                let process = process % PROCESSES;
                let owner = self.processes[process].owner;
                if owner == 0 || owner >= self.owner { Ok(()) } else { self.commit(process, false) }
            }
            Step::Again { which } => {
                let done: Vec<Epoch> = self.epochs.iter().filter(|(_, s)| s.is_done).map(|(e, _)| *e).collect();
                let Some(epoch) = done.get(which % done.len().max(1)).copied() else { return Ok(()) };
                let (process, handle) = (self.owned_by, self.epochs[&epoch].handle.clone());
                let owner = self.token(process, which % 2 == 0);
                let was_replaced = owner < self.owner;
                let result = commit(&self.processes[process].topic, &handle, owner);
                self.note(epoch, process, owner, result, was_replaced)
            }
            Step::Restart { process } => self.restart(process),
            Step::SyncFails { at } => {
                self.sim.disk.fail_file_sync(at);
                Ok(())
            }
            Step::Retain { process, bytes, by } => self.retain(process, bytes, by),
        }?;
        self.check()
    }

    /// Whoever comes next finishes what is not done.
    fn heal(&mut self) -> Outcome {
        self.sim.disk.mend();
        self.lose_power()?;
        while let Some(epoch) = self.undone() {
            self.commit(0, true)?;
            if self.undone() == Some(epoch) {
                return Err(Violation(format!("I15: a new owner cannot commit epoch {epoch}")));
            }
        }
        self.check()
    }
}
