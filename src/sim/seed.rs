//! One simulation: a cluster, a script and the faults of one seed, from the first process to the last row.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use qanat_client::history::History;
use qanat_proto::{Code, Error, Result};
use qanat_storage::env::sim::SimDisk;
use qanat_storage::env::thread;
use serde::{Deserialize, Serialize};
use turmoil::Sim;

use super::clock::{HostClock, Time};
use super::faults::{Excused, Fault, FaultKind, Plan};
use super::input::Input;
use super::links::{LATENCY_MAX, Links, Trouble};
use super::machine::{Machine, Role, STORAGE, Shared, address, make_folder};
use super::raft_watch::RaftWatch;
use super::threads::{Scheduler, SimThreads, TICK};
use super::trace::{Trace, listen};
use super::user::{ENDS_WITHIN_MS, Replaced, Seen, User};

/// A process that has ended by itself is started again after so long.
const RESTARTS_AFTER_MS: u64 = 500;
/// Between two looks at the members of the group.
const RAFT_LOOK_EVERY_MS: u64 = 20;
/// A process that ends for a disk does so within this time after the trouble is over.
const EXCUSED_FOR_MS: u64 = 5_000;
/// Segments that wait in one connection: more than any window lets be sent.
const SEGMENTS_MAX: usize = 1 << 20;

/// What one simulation is made of.
pub(super) struct Seed {
    pub(super) seed: u64,
    /// None: nothing goes wrong, and nobody changes anything.
    pub(super) kinds: Vec<FaultKind>,
    /// Only these of the faults and actions.
    pub(super) kept: Option<Vec<usize>>,
    pub(super) script: String,
    pub(super) set: BTreeMap<String, String>,
    pub(super) input: Input,
    pub(super) is_traced: bool,
}

/// The rows that one sink holds in the end, or that its changes come to, as they were read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SinkSum {
    pub(super) job: String,
    pub(super) table: String,
    /// None: it cannot be read back.
    pub(super) found: Option<(u64, String)>,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(super) seed: u64,
    pub(super) simulated_ms: u64,
    /// Faults and actions of its plan.
    pub(super) events: usize,
    /// How often each kind came about.
    pub(super) fired: BTreeMap<String, u64>,
    pub(super) wishes: BTreeMap<String, u64>,
    pub(super) epochs: u64,
    pub(super) generations: u64,
    pub(super) sinks: Vec<SinkSum>,
    /// States of the replicated log that were compared, and answers to clients that were checked.
    pub(super) raft_states: usize,
    pub(super) answers: usize,
    /// Rows that came too late for a window, and records that could not be used.
    pub(super) late: u64,
    pub(super) dead_lettered: u64,
    /// Rows that audits read back, and what they could not prove.
    pub(super) reconciled: u64,
    pub(super) unproved: Vec<String>,
    pub(crate) violations: Vec<String>,
    pub(crate) unseen: Vec<String>,
    /// The last lines, or all: equal for equal seeds.
    pub(crate) trace: Vec<String>,
}

/// Trouble with a disk.
struct Excuse {
    /// The machine whose own it is; None: the storage.
    process: Option<usize>,
    from_ms: u64,
    until_ms: u64,
}

/// A fault that has begun.
struct Begun {
    fault: Fault,
    machine: Rc<Machine>,
    other: Option<Rc<Machine>>,
    /// Failures on the disk in question before it.
    before: u64,
}

struct Run<'a> {
    sim: Sim<'a>,
    plan: Rc<Plan>,
    time: Time,
    scheduler: Rc<Scheduler>,
    storage: SimDisk,
    machines: Vec<Rc<Machine>>,
    /// When each is started again; None: it runs.
    restarts: Vec<Option<u64>>,
    paused: Vec<u32>,
    links: Links,
    begun: Vec<Begun>,
    next: usize,
    fired: BTreeMap<String, u64>,
    /// Until when whose processes may end by themselves.
    excused: Vec<Excuse>,
    /// A job that was submitted has not ended yet.
    is_at_work: bool,
    trace: Rc<Trace>,
    raft: RaftWatch,
    /// Coordinators that are to take the place of others.
    replaced: Rc<RefCell<Vec<Replaced>>>,
    violations: Vec<String>,
}

impl Seed {
    /// Runs it in this thread, once in the life of this process.
    ///
    /// # Errors
    /// If the simulation itself cannot be done.
    pub(super) fn run(self) -> Result<Outcome> {
        let mut plan = Plan::of(self.seed, &self.kinds);
        let events = plan.events();
        if let Some(kept) = &self.kept {
            plan = plan.keep(kept);
        }
        let plan = Rc::new(plan);
        let time = Time::default();
        let trace = Trace::new(time.clone(), self.is_traced);
        let scheduler = Rc::<Scheduler>::default();
        thread::simulate(Rc::new(SimThreads(scheduler.clone())));
        let right = HostClock::new(time.clone());
        let storage = SimDisk::with_clock(self.seed ^ 0x5_7012_a6e5, Arc::new(right.as_ref().clone()));
        make_folder(&storage, Path::new(STORAGE));
        self.input.put(&storage).map_err(|e| Error::io("give the simulation its input", &e))?;
        let mut sim = turmoil::Builder::new()
            .rng_seed(self.seed)
            .tick_duration(TICK)
            .simulation_duration(Duration::MAX)
            .min_message_latency(Duration::from_millis(0))
            .max_message_latency(LATENCY_MAX)
            .tcp_capacity(SEGMENTS_MAX)
            .build();
        let ids = 1..=plan.coordinators as u64;
        let shared = Rc::new(Shared {
            scheduler: scheduler.clone(),
            storage: storage.clone(),
            trace: trace.clone(),
            members: ids.clone().map(|id| (id, address(&format!("c{id}")))).collect(),
            slots: plan.slots,
            workers: plan.workers,
        });
        let coordinators = ids.map(|id| (format!("c{id}"), Role::Coordinator(id)));
        let executors = (1..=plan.executors).map(|number| (format!("e{number}"), Role::Executor));
        let mut machines = Vec::new();
        for (index, (name, role)) in coordinators.chain(executors).enumerate() {
            let seed = self.seed.wrapping_mul(1_000_003).wrapping_add(index as u64);
            machines.push(Machine::new(&name, role, &shared, HostClock::new(time.clone()), seed));
        }
        listen(&trace, &scheduler, machines.iter().map(|machine| machine.name.clone()).collect());
        note_panics(&trace);
        for machine in &machines {
            let machine = machine.clone();
            sim.host(machine.name.clone(), move || machine.clone().live());
        }
        let replaced = Rc::<RefCell<Vec<Replaced>>>::default();
        let (seen, is_done) = (Rc::<RefCell<Seen>>::default(), Rc::<Cell<bool>>::default());
        let user = User {
            script: self.script,
            set: self.set,
            coordinators: shared.members.values().cloned().collect(),
            plan: plan.clone(),
            time: time.clone(),
            trace: trace.clone(),
            seen: seen.clone(),
            asked: RefCell::default(),
            history: History::default(),
            replaced: replaced.clone(),
            is_done: is_done.clone(),
        };
        sim.client("user", user.act());
        let mut run = Run {
            sim,
            plan,
            time,
            scheduler,
            storage,
            restarts: vec![None; machines.len()],
            paused: vec![0; machines.len()],
            machines,
            links: Links::default(),
            begun: Vec::new(),
            next: 0,
            fired: BTreeMap::new(),
            excused: Vec::new(),
            is_at_work: false,
            trace,
            raft: RaftWatch::default(),
            replaced,
            violations: Vec::new(),
        };
        run.until(&is_done)?;
        let seen = std::mem::take(&mut *seen.borrow_mut());
        Ok(run.outcome(self.seed, events, seen))
    }
}

/// Panics of the engine are errors that nobody expects, wherever they are caught.
fn note_panics(trace: &Rc<Trace>) {
    thread_local! {
        static TRACE: RefCell<Option<Rc<Trace>>> = const { RefCell::new(None) };
    }
    TRACE.with_borrow_mut(|slot| *slot = Some(trace.clone()));
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        TRACE.with_borrow(|slot| match slot {
            Some(trace) => trace.panic(format!("panic: {panic}")),
            // Of a thread that only lends its stack; whoever waits for it says so.
            None => before(panic),
        });
    }));
}

impl Run<'_> {
    fn until(&mut self, is_done: &Cell<bool>) -> Result<()> {
        let deadline = self.plan.heals_ms + 2 * ENDS_WITHIN_MS;
        while !is_done.get() {
            self.time.tick();
            self.scheduler.tick();
            self.restart_ended();
            self.end_faults();
            self.begin_faults();
            self.look_at_raft();
            self.sim.step().map_err(|e| Error::internal(format!("the simulated network: {e}")))?;
            if self.time.ms() > deadline {
                self.violations.push("the user gets no answer though nothing goes wrong any more".to_owned());
                return Ok(());
            }
        }
        Ok(())
    }

    fn look_at_raft(&mut self) {
        if !self.time.ms().is_multiple_of(RAFT_LOOK_EVERY_MS) {
            return;
        }
        let mut known = None;
        for machine in &self.machines {
            let Some((member, life)) = machine.member() else { continue };
            // What stays wrong is told once.
            let wrong = self.raft.look(&member, life).filter(|wrong| !self.violations.contains(wrong));
            self.violations.extend(wrong);
            let applied = member.raft_status().applied;
            let is_at_work = member.state(|state| state.jobs.values().any(|job| !job.status.is_ended()));
            known = known.max(Some((applied, is_at_work)));
        }
        if let Some((_, is_at_work)) = known {
            self.is_at_work = is_at_work;
        }
    }

    /// Processes that have ended by themselves are started again, as by a supervisor, and those that were killed.
    fn restart_ended(&mut self) {
        for index in 0..self.machines.len() {
            let machine = self.machines[index].clone();
            if let Some(error) = machine.take_end() {
                machine.bury();
                self.restarts[index] = Some(self.time.ms() + RESTARTS_AFTER_MS);
                let is_damage = matches!(error.code(), Code::CorruptLog | Code::CorruptCheckpoint);
                let is_never_right =
                    is_damage || matches!(error.code(), Code::Invariant | Code::Panic | Code::Internal);
                if machine.is_rotten.get() && is_damage {
                    self.trace.line(&machine.name, "gives up its disk");
                    self.replace_disk(&machine);
                } else if is_never_right || !self.is_excused(machine.process, self.time.ms()) {
                    self.violations.push(format!("{} ended at {} ms: {error}", machine.name, self.time.ms()));
                }
            }
            if self.restarts[index].is_some_and(|at| at <= self.time.ms()) {
                self.restarts[index] = None;
                self.trace.line(&machine.name, "starts again");
                self.sim.bounce(machine.name.clone());
            }
        }
    }

    fn begin_faults(&mut self) {
        while let Some(fault) = self.plan.faults.get(self.next).filter(|fault| fault.at_ms <= self.time.ms()).cloned() {
            self.next += 1;
            self.begin(fault);
        }
    }

    fn begin(&mut self, fault: Fault) {
        let only = |is_executor: bool| move |machine: &&Rc<Machine>| (machine.role == Role::Executor) == is_executor;
        let executors: Vec<Rc<Machine>> = self.machines.iter().filter(only(true)).cloned().collect();
        let coordinators: Vec<Rc<Machine>> = self.machines.iter().filter(only(false)).cloned().collect();
        let among = match fault.kind {
            FaultKind::KillExecutor | FaultKind::PauseExecutor => &executors,
            FaultKind::KillCoordinator
            | FaultKind::PauseCoordinator
            | FaultKind::PowerOff
            | FaultKind::BitFlip
            | FaultKind::DiskFull
            | FaultKind::SyncFails
            | FaultKind::SlowDisk => &coordinators,
            _ => &self.machines,
        };
        let pick = |among: &[Rc<Machine>], which: u64| {
            usize::try_from(which % among.len().max(1) as u64).ok().and_then(|index| among.get(index).cloned())
        };
        let Some(machine) = pick(among, fault.which) else { return };
        let others: Vec<Rc<Machine>> =
            self.machines.iter().filter(|other| other.name != machine.name).cloned().collect();
        let other = pick(&others, fault.other);
        let index = self.index(&machine);
        let mut begun = Begun { fault: fault.clone(), machine: machine.clone(), other: other.clone(), before: 0 };
        let is_away = |machine: &Machine| self.restarts[self.index(machine)].is_some();
        let needs_two =
            matches!(fault.kind, FaultKind::Partition | FaultKind::OneWay | FaultKind::SlowLink | FaultKind::HeldLink);
        // To nobody, or twice to one disk: it would not be felt, or end with the first.
        let is_doubled = self.begun.iter().any(|begun| {
            begun.fault.kind == fault.kind && (begun.machine.process == machine.process || fault.kind.is_of_storage())
        });
        let is_unfelt = is_away(&machine) || (needs_two && other.as_ref().is_none_or(|other| is_away(other)));
        if is_unfelt || (is_doubled && fault.kind.is_of_disk()) {
            return;
        }
        if let Some(excused) = fault.kind.excuses() {
            let process = (excused == Excused::Machine).then_some(machine.process);
            let until_ms = fault.at_ms + fault.lasts_ms + EXCUSED_FOR_MS;
            self.excused.push(Excuse { process, from_ms: fault.at_ms, until_ms });
        }
        let told = other.as_ref().map_or_else(String::new, |other| format!(" ({})", other.name));
        self.trace.line(&machine.name, &format!("{:?}{told} for {} ms", fault.kind, fault.lasts_ms));
        match fault.kind {
            FaultKind::StoragePowerOff => {
                for index in 0..self.machines.len() {
                    if self.restarts[index].is_none() {
                        self.sim.crash(self.machines[index].name.clone());
                        self.machines[index].bury();
                    }
                    self.restarts[index] = Some(self.time.ms() + fault.lasts_ms.max(1));
                }
                self.storage.crash_arbitrary();
                self.count(fault.kind);
                return;
            }
            FaultKind::KillExecutor
            | FaultKind::KillCoordinator
            | FaultKind::PowerOff
            | FaultKind::DiskLost
            | FaultKind::BitFlip => {
                let costs_disk = matches!(fault.kind, FaultKind::DiskLost | FaultKind::BitFlip);
                if costs_disk && !self.can_lose_disk(&machine) {
                    return;
                }
                self.sim.crash(machine.name.clone());
                machine.bury();
                match fault.kind {
                    FaultKind::PowerOff => drop(machine.own().crash_arbitrary()),
                    FaultKind::DiskLost => self.replace_disk(&machine),
                    _ => {}
                }
                let is_felt = fault.kind != FaultKind::BitFlip || machine.rot(fault.size);
                self.restarts[index] = Some(self.time.ms() + fault.lasts_ms.max(1));
                if is_felt {
                    self.count(fault.kind);
                }
                return;
            }
            FaultKind::PauseExecutor | FaultKind::PauseCoordinator => {
                self.paused[index] += 1;
                self.scheduler.pause_process(machine.process, true);
                self.around(&machine, Trouble::Held, true);
            }
            FaultKind::Partition | FaultKind::OneWay | FaultKind::SlowLink | FaultKind::HeldLink => {
                let Some(other) = &other else { return };
                self.between(&machine, other, &fault, true);
            }
            FaultKind::CutOff => self.around(&machine, Trouble::Cut, true),
            FaultKind::ClockJump => machine.clock.jump(jump_of(&fault)),
            FaultKind::DiskFull => {
                begun.before = machine.troubles(true).full;
                machine.own().set_capacity(Some(machine.own().used() + fault.size % 20_000));
            }
            FaultKind::StorageFull => {
                begun.before = self.in_storage(|troubles| troubles.full);
                self.storage.set_capacity(Some(self.storage.used() + fault.size % 100_000));
            }
            FaultKind::SyncFails => {
                begun.before = machine.troubles(true).broken;
                machine.own().fail_file_sync(1 + fault.size % 10);
            }
            FaultKind::StorageSyncFails => {
                begun.before = self.in_storage(|troubles| troubles.broken);
                self.storage.fail_file_sync(1 + fault.size % 30);
            }
            FaultKind::SlowDisk | FaultKind::SlowStorage => {
                let is_own = fault.kind == FaultKind::SlowDisk;
                begun.before = machine.troubles(is_own).slow;
                machine.life().slow_down(is_own, 10 + fault.size % 2_500);
            }
        }
        self.begun.push(begun);
    }

    fn end_faults(&mut self) {
        let now = self.time.ms();
        let over = self.begun.extract_if(.., |begun| begun.fault.at_ms + begun.fault.lasts_ms <= now);
        for begun in over.collect::<Vec<_>>() {
            self.end(&begun);
        }
    }

    fn end(&mut self, begun: &Begun) {
        let Begun { fault, machine, other, before } = begun;
        self.trace.line(&machine.name, &format!("{:?} is over", fault.kind));
        let index = self.index(machine);
        let has_fired = match fault.kind {
            FaultKind::KillExecutor
            | FaultKind::KillCoordinator
            | FaultKind::PowerOff
            | FaultKind::StoragePowerOff
            | FaultKind::DiskLost
            | FaultKind::BitFlip => return,
            FaultKind::PauseExecutor | FaultKind::PauseCoordinator => {
                self.paused[index] -= 1;
                if self.paused[index] == 0 {
                    self.scheduler.pause_process(machine.process, false);
                }
                self.around(machine, Trouble::Held, false);
                true
            }
            FaultKind::Partition | FaultKind::OneWay | FaultKind::SlowLink | FaultKind::HeldLink => {
                if let Some(other) = other {
                    self.between(machine, other, fault, false);
                }
                true
            }
            FaultKind::CutOff => {
                self.around(machine, Trouble::Cut, false);
                true
            }
            FaultKind::ClockJump => {
                machine.clock.jump(-jump_of(fault));
                true
            }
            FaultKind::DiskFull => {
                machine.own().set_capacity(None);
                machine.troubles(true).full > *before
            }
            FaultKind::StorageFull => {
                self.storage.set_capacity(None);
                self.in_storage(|troubles| troubles.full) > *before
            }
            FaultKind::SyncFails => {
                machine.own().mend();
                machine.troubles(true).broken > *before
            }
            FaultKind::StorageSyncFails => {
                self.storage.mend();
                self.in_storage(|troubles| troubles.broken) > *before
            }
            FaultKind::SlowDisk | FaultKind::SlowStorage => {
                let is_own = fault.kind == FaultKind::SlowDisk;
                machine.life().slow_down(is_own, 0);
                machine.troubles(is_own).slow > *before
            }
        };
        if has_fired {
            self.count(fault.kind);
        }
    }

    /// One disk of a coordinator may be lost, of those that hold a group that is made: several at once are not covered.
    fn can_lose_disk(&self, machine: &Machine) -> bool {
        let is_rotten = self.machines.iter().any(|machine| machine.is_rotten.get());
        machine.role == Role::Executor
            || (self.plan.coordinators >= 3
                && self.raft.has_seen_leader()
                && !is_rotten
                && self.replaced.borrow().is_empty())
    }

    fn replace_disk(&self, machine: &Machine) {
        let (lost, new) = machine.lose_disk();
        if machine.role != Role::Executor {
            self.replaced.borrow_mut().push(Replaced { lost, new, address: address(&machine.name) });
        }
    }

    fn is_excused(&self, process: usize, at_ms: u64) -> bool {
        let is_within = |excuse: &Excuse| (excuse.from_ms..excuse.until_ms).contains(&at_ms);
        self.excused.iter().any(|excuse| is_within(excuse) && excuse.process.is_none_or(|own| own == process))
    }

    /// A fault has come about. What nobody was at work to feel does not count.
    fn count(&mut self, kind: FaultKind) {
        if !self.is_at_work {
            return;
        }
        *self.fired.entry(kind.name()).or_default() += 1;
    }

    fn index(&self, machine: &Machine) -> usize {
        self.machines.iter().position(|known| known.process == machine.process).unwrap_or(0)
    }

    fn in_storage(&self, of: impl Fn(super::disk::Troubles) -> u64) -> u64 {
        self.machines.iter().map(|machine| of(machine.troubles(false))).sum()
    }

    /// On every link of a machine.
    fn around(&mut self, machine: &Machine, trouble: Trouble, begins: bool) {
        let others: Vec<String> = self.machines.iter().map(|other| other.name.clone()).collect();
        for other in others.iter().map(String::as_str).chain(["user"]).filter(|other| *other != machine.name) {
            self.links.set(&mut self.sim, &machine.name, other, trouble, begins);
            if trouble == Trouble::Cut {
                self.links.set(&mut self.sim, other, &machine.name, trouble, begins);
            }
        }
    }

    fn between(&mut self, from: &Machine, to: &Machine, fault: &Fault, begins: bool) {
        let trouble = match fault.kind {
            FaultKind::SlowLink => Trouble::Slow(50 + fault.size % 1_000),
            FaultKind::HeldLink => Trouble::Held,
            _ => Trouble::Cut,
        };
        self.links.set(&mut self.sim, &from.name, &to.name, trouble, begins);
        if fault.kind == FaultKind::Partition {
            self.links.set(&mut self.sim, &to.name, &from.name, trouble, begins);
        }
    }

    fn outcome(mut self, seed: u64, events: usize, seen: Seen) -> Outcome {
        // A full or failing disk is worth an error line; a panic never is.
        let process_of = |name: &str| self.machines.iter().find(|m| m.name == name).map_or(usize::MAX, |m| m.process);
        let errors = self.trace.take_errors().into_iter();
        let errors = errors.filter(|error| !self.is_excused(process_of(&error.who), error.at_ms));
        let errors: Vec<String> =
            errors.map(|error| format!("{} logs an error at {} ms: {}", error.who, error.at_ms, error.what)).collect();
        self.violations.extend(errors);
        self.violations.extend(self.trace.take_panics());
        self.violations.extend(seen.violations);
        let sinks = seen.audits.iter().flat_map(|report| {
            report.sinks.iter().map(|sink| SinkSum {
                job: report.name.clone(),
                table: sink.table.clone(),
                found: sink.net.map(|sum| (sum.rows, format!("{:?}", sum.hash))),
            })
        });
        let total =
            |of: fn(&qanat_proto::audit::Sums) -> u64| seen.audits.iter().map(|report| of(&report.totals)).sum();
        let outcome = Outcome {
            seed,
            simulated_ms: self.time.ms(),
            events,
            fired: self.fired,
            wishes: seen.wishes,
            epochs: total(|sums| sums.epochs),
            generations: seen.generations,
            sinks: sinks.collect(),
            raft_states: self.raft.states(),
            answers: seen.answers,
            late: total(|sums| sums.late),
            dead_lettered: total(|sums| sums.dead_lettered),
            reconciled: seen.audits.iter().map(|report| report.reconciled).sum(),
            unproved: seen.audits.iter().flat_map(|report| report.unproved.clone()).collect(),
            violations: self.violations,
            unseen: seen.unseen,
            trace: self.trace.lines(),
        };
        // Like a killed process's, the simulated ones' destructors are nobody's business.
        std::mem::forget(self.sim);
        outcome
    }
}

fn jump_of(fault: &Fault) -> i64 {
    const HOUR_MS: u64 = 3_600_000;
    (fault.size % (2 * HOUR_MS)).cast_signed() - HOUR_MS.cast_signed()
}
