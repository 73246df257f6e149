//! One executor process of the model.

use std::collections::{BTreeMap, VecDeque};

use qanat_executor_core::barrier::is_sealed;
use qanat_executor_core::control::{Control, Verdict};
use qanat_executor_core::said::Said;
use qanat_proto::control::{
    CommitPermit, CoordinatorMessage, Deployment, ExecutorMessage, FromExecutor, SubtaskReport, ToExecutor, Withdrawal,
};
use qanat_proto::ids::{Epoch, Generation as GenerationNumber, KeyGroupRange, StartId, Token};
use qanat_proto::manifest::{PreparedHandle, StateFile};
use qanat_proto::zoo::{Bug, planted};
use qanat_proto::{Code, Error, Place};

use super::dataflow::{Counts, Element, SinkTask, SourceTask};
use super::folder::Folder;
use super::job::SINK;
use super::store::Store;

/// A channel from one subtask of the source to one of the sink, of one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wire {
    pub(super) token: Token,
    pub(super) from: u32,
    pub(super) to: u32,
}

/// Channels with what is on them.
pub(super) type Wires = BTreeMap<Wire, VecDeque<Element>>;

/// What the processes of a cluster share.
pub(super) struct Shared<'a> {
    pub(super) store: &'a mut Store,
    pub(super) folder: &'a mut Folder,
    pub(super) wires: &'a mut Wires,
    /// Where each split ends now, and up to where it is gone.
    pub(super) heads: &'a [u64],
    pub(super) gone: &'a [u64],
    /// Of each split in the end.
    pub(super) records: u64,
    /// The job's, as it is decided: what an earlier one is to restore may be collected.
    pub(super) newest: GenerationNumber,
}

/// Work on what is outside, in order.
#[derive(Clone, Debug)]
enum Work {
    Commit { permit: CommitPermit, done: usize },
    Abort(Vec<PreparedHandle>),
    Withdraw(Vec<Withdrawal>),
}

/// The generation that a process has.
#[derive(Clone, Debug)]
pub(super) struct Generation {
    pub(super) token: Token,
    said: Said,
    is_started: bool,
    pub(super) has_failed: bool,
    pub(super) parallelism: u32,
    key_groups: u16,
    pub(super) hosts: Vec<StartId>,
    sources: Vec<SourceTask>,
    sinks: Vec<SinkTask>,
    work: VecDeque<Work>,
}

/// A start of a process.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) start: StartId,
    control: Control,
    pub(super) generation: Option<Generation>,
    /// Taken from a connection, and not looked at yet.
    pub(super) inbox: VecDeque<ToExecutor>,
    /// Said, and not on a connection yet.
    pub(super) outbox: Vec<FromExecutor>,
    /// Messages of older generations that it refused.
    pub(super) fenced: u64,
    failures: u64,
}

impl Process {
    pub(super) fn new(start: StartId) -> Self {
        Self {
            start,
            control: Control::new(start),
            generation: None,
            inbox: VecDeque::new(),
            outbox: Vec::new(),
            fenced: 0,
            failures: 0,
        }
    }

    /// The generations that it was ever given, the newest of each job.
    pub(super) fn holds(&self) -> Vec<Token> {
        self.control.built().collect()
    }

    fn say(&mut self, token: Token, message: CoordinatorMessage) {
        self.outbox.push(FromExecutor { start: self.start, token, message });
    }

    /// Says something of its generation, which may be asked for again.
    fn report(&mut self, message: CoordinatorMessage) {
        let Some(generation) = &mut self.generation else { return };
        generation.said.note(&message);
        let token = generation.token;
        self.say(token, message);
    }

    /// The first failure of the generation is news.
    pub(super) fn fail(&mut self, code: Code, place: &str) {
        let Some(generation) = &mut self.generation else { return };
        if !std::mem::replace(&mut generation.has_failed, true) {
            let error = Error::new(code, "planted").at(Place::Named(place.to_owned()));
            self.report(CoordinatorMessage::Failed { subtask: None, error });
        }
    }

    /// A failure unlike those before it.
    pub(super) fn fail_anew(&mut self) {
        self.failures += 1;
        let place = format!("{}-{}", self.start, self.failures);
        self.fail(Code::Io, &place);
    }

    /// Takes the next message.
    pub(super) fn take(&mut self, to: &ToExecutor, shared: &mut Shared<'_>) -> Result<(), String> {
        match (self.control.take(to), &to.message) {
            (Verdict::Fenced, _) => self.fenced += 1,
            (Verdict::Unknown | Verdict::Append, _) => {}
            (Verdict::Build, ExecutorMessage::Deploy(deployment)) => {
                self.end(shared)?;
                match Generation::build(self.start, to.token, deployment, shared) {
                    Ok(generation) => {
                        self.generation = Some(generation);
                        self.say(to.token, CoordinatorMessage::Deployed);
                    }
                    Err(_) if to.token.generation < shared.newest => {
                        self.control.ended(to.token);
                        let error = Error::new(Code::CorruptCheckpoint, "it is retired");
                        self.say(to.token, CoordinatorMessage::Failed { subtask: None, error });
                    }
                    Err(error) => return Err(error),
                }
            }
            (Verdict::Stands, _) => {
                let said = self.generation.as_ref().map(|generation| generation.said.deployed());
                said.into_iter().for_each(|message| self.say(to.token, message));
            }
            (Verdict::HasEnded, _) => {
                let error = Error::new(Code::ExecutorLost, "ended here");
                self.say(to.token, CoordinatorMessage::Failed { subtask: None, error });
            }
            (Verdict::End, _) => {
                self.end(shared)?;
                self.say(to.token, CoordinatorMessage::Stopped);
            }
            (Verdict::Take | Verdict::Build, message) => self.act(message.clone(), shared),
        }
        Ok(())
    }

    fn act(&mut self, message: ExecutorMessage, shared: &mut Shared<'_>) {
        let Some(generation) = &mut self.generation else { return };
        match message {
            ExecutorMessage::Start => generation.is_started = true,
            ExecutorMessage::Trigger { epoch } => {
                for report in generation.trigger(epoch, shared) {
                    self.report(CoordinatorMessage::Prepared { epoch, report: Box::new(report) });
                }
                let Some(generation) = &self.generation else { return };
                let (token, again): (_, Vec<_>) = (generation.token, generation.said.reports(epoch).collect());
                again.into_iter().for_each(|message| self.say(token, message));
            }
            ExecutorMessage::Commit(permit) => generation.work.push_back(Work::Commit { permit, done: 0 }),
            ExecutorMessage::Withdraw(withdrawals) => generation.work.push_back(Work::Withdraw(withdrawals)),
            ExecutorMessage::AbortLower { keep } => generation.work.push_back(Work::Abort(keep)),
            ExecutorMessage::Deploy(_) | ExecutorMessage::CommitLog { .. } | ExecutorMessage::Stop => {}
        }
    }

    /// Ends the generation: what it was told to do outside is done first, as its thread does.
    fn end(&mut self, shared: &mut Shared<'_>) -> Result<(), String> {
        while self.has_work() {
            self.work(shared)?;
        }
        if let Some(generation) = self.generation.take() {
            self.control.ended(generation.token);
        }
        Ok(())
    }

    pub(super) fn has_work(&self) -> bool {
        self.generation.as_ref().is_some_and(|generation| !generation.work.is_empty())
    }

    /// One step of the work on what is outside.
    pub(super) fn work(&mut self, shared: &mut Shared<'_>) -> Result<(), String> {
        let Some(generation) = &mut self.generation else { return Ok(()) };
        let token = generation.token;
        let Some(work) = generation.work.front_mut() else { return Ok(()) };
        let said = match work {
            Work::Commit { permit, done } => match permit.handles.get(*done) {
                Some(handle) if !planted(Bug::CommittedEarly) => {
                    if !shared.folder.publish(handle) {
                        return Err(format!("I1: `{}` is to be committed and is not there", handle.name));
                    }
                    *done += 1;
                    return Ok(());
                }
                _ => {
                    let (epoch, manifest_key) = (permit.epoch, permit.manifest_key.clone());
                    CoordinatorMessage::Committed { epoch, manifest_key }
                }
            },
            Work::Abort(keep) => {
                shared.folder.abort_lower(token, keep);
                CoordinatorMessage::Aborted
            }
            Work::Withdraw(withdrawals) => {
                withdrawals.iter().for_each(|withdrawal| shared.folder.withdraw(withdrawal, SINK));
                CoordinatorMessage::Withdrawn
            }
        };
        generation.work.pop_front();
        self.report(said);
        Ok(())
    }

    /// A source reads.
    pub(super) fn read(
        &mut self,
        source: usize,
        split: usize,
        count: u64,
        shared: &mut Shared<'_>,
    ) -> Result<(), String> {
        let Some(generation) = self.generation.as_mut().filter(|generation| generation.is_started) else {
            return Ok(());
        };
        let (token, shape) = (generation.token, (generation.key_groups, generation.parallelism));
        let at = source % generation.sources.len().max(1);
        let Some(source) = generation.sources.get_mut(at) else { return Ok(()) };
        let from = source.index;
        for (to, rows) in source.read(split, count, (shared.heads, shared.gone), shape)? {
            shared.wires.entry(Wire { token, from, to }).or_default().push_back(Element::Rows(rows));
        }
        Ok(())
    }

    /// A sink takes what is first on one of its channels.
    pub(super) fn flow(&mut self, which: usize, shared: &mut Shared<'_>) -> Result<(), String> {
        let Some(generation) = self.generation.as_mut().filter(|generation| generation.is_started) else {
            return Ok(());
        };
        let token = generation.token;
        let ready = generation.ready(shared.wires);
        let Some(wire) = ready.get(which % ready.len().max(1)) else { return Ok(()) };
        let Some(element) = shared.wires.get_mut(wire).and_then(VecDeque::pop_front) else { return Ok(()) };
        let range = generation.range(wire.to);
        let Some(sink) = generation.sinks.iter_mut().find(|sink| sink.index == wire.to) else { return Ok(()) };
        match element {
            Element::Rows(rows) => sink.take(&rows),
            Element::Barrier(epoch) => {
                let outside = (&mut *shared.store, &mut *shared.folder);
                if let Some((epoch, report)) = sink.barrier(wire.from, epoch, token, range, outside)? {
                    self.report(CoordinatorMessage::Prepared { epoch, report: Box::new(report) });
                }
            }
        }
        Ok(())
    }

    /// The generation that reads and writes here, if one does.
    pub(super) fn works(&self) -> Option<Token> {
        self.generation.as_ref().filter(|generation| generation.is_started).map(|generation| generation.token)
    }

    /// Sources and their splits of which records are there to be read.
    pub(super) fn readable(&self, heads: &[u64]) -> Vec<(usize, usize)> {
        let generation = self.generation.as_ref().filter(|generation| generation.is_started);
        let sources = generation.into_iter().flat_map(|generation| generation.sources.iter().enumerate());
        sources.flat_map(|(at, source)| source.readable(heads).into_iter().map(move |split| (at, split))).collect()
    }

    /// Number of channels from which a sink may take something.
    pub(super) fn flows(&self, wires: &Wires) -> usize {
        let generation = self.generation.as_ref().filter(|generation| generation.is_started);
        generation.map_or(0, |generation| generation.ready(wires).len())
    }
}

impl Generation {
    /// Channels from which a sink may take something.
    fn ready(&self, wires: &Wires) -> Vec<Wire> {
        let pairs = self.sinks.iter().flat_map(|sink| (0..self.parallelism).map(move |from| (sink, from)));
        let open = pairs.filter(|(sink, from)| !sink.aligner.is_blocked(*from as usize));
        let all = open.map(|(sink, from)| Wire { token: self.token, from, to: sink.index });
        all.filter(|wire| wires.get(wire).is_some_and(|queue| !queue.is_empty())).collect()
    }

    fn build(start: StartId, token: Token, deployment: &Deployment, shared: &Shared<'_>) -> Result<Self, String> {
        let (parallelism, key_groups) = (deployment.parallelism, deployment.restore.key_groups);
        let mut generation = Self {
            token,
            said: Said::default(),
            is_started: false,
            has_failed: false,
            parallelism,
            key_groups,
            hosts: deployment.hosts.iter().map(|host| host.start).collect(),
            sources: Vec::new(),
            sinks: Vec::new(),
            work: VecDeque::new(),
        };
        if deployment.replay_only {
            return Ok(generation);
        }
        let sealed = deployment.before_first();
        let here = |index: &u32| deployment.host(*index).is_some_and(|host| host.start == start);
        for index in (0..parallelism).filter(here) {
            let splits = deployment.restore.sources.iter().flat_map(|source| &source.splits);
            let mut positions: Vec<u64> = splits.map(|split| split.position.as_u64().unwrap_or(0)).collect();
            if positions.is_empty() {
                // Nobody says where: at what is newest now.
                positions = shared.heads.to_vec();
            }
            let splits = positions.into_iter().enumerate();
            let mine: Vec<(usize, u64)> = splits.filter(|(split, _)| *split as u32 % parallelism == index).collect();
            generation.sources.push(SourceTask::new(index, &mine, sealed));
            let state = restored(deployment, generation.range(index), shared.store)?;
            generation.sinks.push(SinkTask::new(index, parallelism, sealed, key_groups, state));
        }
        Ok(generation)
    }

    fn range(&self, index: u32) -> KeyGroupRange {
        KeyGroupRange::of_subtask(self.key_groups, self.parallelism, index)
    }

    /// Sources note where they stand, once for each epoch.
    fn trigger(&mut self, epoch: Epoch, shared: &mut Shared<'_>) -> Vec<SubtaskReport> {
        let (token, key_groups, parallelism) = (self.token, self.key_groups, self.parallelism);
        let mut reports = Vec::new();
        for source in self.sources.iter_mut().filter(|source| self.is_started && !is_sealed(epoch, source.sealed)) {
            let range = KeyGroupRange::of_subtask(key_groups, parallelism, source.index);
            reports.push(source.seal(epoch, shared.records, range));
            for to in 0..parallelism {
                let wire = Wire { token, from: source.index, to };
                shared.wires.entry(wire).or_default().push_back(Element::Barrier(epoch));
            }
        }
        reports
    }
}

/// The state of a sink subtask at the restore point: whatever a manifest names must be there (I7).
fn restored(deployment: &Deployment, range: KeyGroupRange, store: &Store) -> Result<(Vec<StateFile>, Counts), String> {
    let operators = deployment.restore.operators.iter().filter(|operator| operator.operator == SINK);
    let files = operators.flat_map(|operator| &operator.tables).flat_map(|table| &table.files);
    let (mut kept, mut counts) = (Vec::new(), Counts::new());
    for file in files {
        let (start, end) = (file.key_groups.start.max(range.start), file.key_groups.end.min(range.end));
        if start >= end {
            continue;
        }
        let Some(object) = store.objects.get(&file.object) else {
            return Err(format!("I7: `{}` is to be restored and is gone", file.object));
        };
        counts.extend(object.range(start..end).map(|(group, count)| (*group, *count)));
        kept.push(StateFile { key_groups: KeyGroupRange { start, end }, ..file.clone() });
    }
    Ok((kept, counts))
}
