//! Does one fault of a campaign to the cluster, from its beginning to its end.
//!
//! Each returns whether it came about: a sync that was to fail and that nobody asked for is no fault.

use std::time::Duration;

use anyhow::{Context, Result};
use qanat_storage::env::sim::Random;
use rustix::process::Signal;

use super::cluster::{PROGRESS_MAX, Trial};
use super::damage::Flip;
use super::fault::{Fault, FaultKind};
use super::members::{COORDINATORS, EXECUTORS, NODES, name};
use super::operator::audit;
use super::shim::Order;
use super::weather::Trouble;
use super::workload::JOB;

/// So long an order waits for somebody whom it concerns.
const MEETS_MAX: Duration = Duration::from_secs(5);
/// A process that gets no more memory is dead by then, or has needed none.
const STARVES_MAX: Duration = Duration::from_secs(5);
/// Both need every executor.
const STARVED: [u64; 2] = [5, 6];
/// A process that has met a failing disk has ended by then, or goes on.
const ENDS_MAX: Duration = Duration::from_secs(3);
/// A wall clock jumps by less than this, forwards or backwards.
const JUMP_MS: u64 = 7_200_000;
/// Between two breaks of all connections.
const RESET_EVERY: Duration = Duration::from_millis(150);

/// Nodes that a fault may happen to.
fn any(which: u64) -> usize {
    usize::try_from(which % NODES as u64).unwrap_or(0)
}

fn executor(which: u64) -> usize {
    COORDINATORS + usize::try_from((which >> 8) % EXECUTORS as u64).unwrap_or(0)
}

fn coordinator(which: u64) -> usize {
    usize::try_from(which % COORDINATORS as u64).unwrap_or(0)
}

fn both(left: usize, right: usize) -> [(usize, usize); 2] {
    [(left, right), (right, left)]
}

/// Both ways between a node and others.
fn around(node: usize, others: impl Iterator<Item = usize>) -> Vec<(usize, usize)> {
    others.filter(|other| *other != node).flat_map(|other| both(node, other)).collect()
}

impl Trial {
    pub(super) fn inject(&mut self, fault: Fault) -> Result<bool> {
        let Fault { kind, which, lasts, .. } = fault;
        match kind {
            FaultKind::KillExecutor => self.falls(executor(which), Signal::KILL, fault),
            FaultKind::KillLeader => {
                let leader = self.members.leader()?;
                self.falls(leader, Signal::KILL, fault)
            }
            FaultKind::KillFollower => {
                let other = 1 + usize::try_from(which % (COORDINATORS as u64 - 1))?;
                let follower = (self.members.leader()? + other) % COORDINATORS;
                self.falls(follower, Signal::KILL, fault)
            }
            FaultKind::PauseExecutor => self.sleeps(executor(which), lasts),
            FaultKind::PauseLeader => {
                let leader = self.members.leader()?;
                self.sleeps(leader, lasts)
            }
            FaultKind::Restart => self.falls(any(which), Signal::TERM, Fault { lasts: Duration::ZERO, ..fault }),
            FaultKind::CutLink => {
                let executor = executor(which);
                self.parts(&around(executor, COORDINATORS..NODES), lasts)
            }
            FaultKind::IsolateLeader => {
                let leader = self.members.leader()?;
                self.parts(&around(leader, 0..NODES), lasts)
            }
            FaultKind::IsolateExecutor => self.parts(&around(executor(which), 0..NODES), lasts),
            FaultKind::OneWay => {
                let node = any(which);
                let is_unheard = (which / NODES as u64).is_multiple_of(2);
                let ways = around(node, 0..NODES).into_iter().filter(|way| (way.0 == node) == is_unheard);
                self.parts(&ways.collect::<Vec<_>>(), lasts)
            }
            FaultKind::Bridge => {
                let bridge = coordinator(which);
                self.parts(&both((bridge + 1) % COORDINATORS, (bridge + 2) % COORDINATORS), lasts)
            }
            FaultKind::Partial => {
                let leader = self.members.leader()?;
                self.parts(&both(leader, executor(which)), lasts)
            }
            FaultKind::SlowLink => self.is_troubled(which, Trouble::Slow, lasts),
            FaultKind::LossyLink => self.is_troubled(which, Trouble::Lossy, lasts),
            FaultKind::ResetLink => {
                for _ in 0..lasts.as_millis().div_ceil(RESET_EVERY.as_millis()) {
                    self.members.network.reset(any(which))?;
                    self.pass(RESET_EVERY)?;
                }
                Ok(true)
            }
            FaultKind::ClockJump => {
                let off = i64::try_from(which % (2 * JUMP_MS))? - i64::try_from(JUMP_MS)?;
                self.is_ordered(any(which >> 32), Order::ClockOffMs, off)
            }
            FaultKind::FullDisk => self.has_no_room(any(which), (which / NODES as u64).is_multiple_of(2), fault),
            FaultKind::FailSync => {
                let node = any(which);
                self.feels(node, kind);
                let met = self.is_ordered(node, Order::SyncsFail, 1 + i64::try_from(which % 3)?)?;
                self.members.server(node)?.control.calm()?;
                self.recovers(node)?;
                Ok(met)
            }
            FaultKind::SlowSync => {
                let node = any(which);
                let met = self.is_ordered(node, Order::SyncDelayMs, 50 + i64::try_from(which % 400)?)?;
                self.pass(lasts)?;
                self.members.server(node)?.control.calm()?;
                Ok(met)
            }
            FaultKind::MemoryLimit => self.starves(executor(which), kind),
            FaultKind::WipeExecutor => {
                let node = executor(which);
                self.members.end(node, Signal::KILL)?;
                self.members.wipe(node)?;
                self.pass(lasts)?;
                self.members.begin(node)?;
                Ok(true)
            }
            FaultKind::WipeCoordinator => {
                let node = coordinator(which);
                self.feels(node, kind);
                self.members.end(node, Signal::KILL)?;
                self.pass(lasts)?;
                self.comes_back_empty(node)
            }
            FaultKind::FlipStopped => self.is_damaged(coordinator(which), which, fault, false),
            FaultKind::FlipRunning => self.is_damaged(coordinator(which), which, fault, true),
            FaultKind::Roll => self.rolls(),
            FaultKind::Rescale => self.rescale(2 + which % 5),
            FaultKind::Savepoint => self.operator.savepoint(&self.members, which),
            FaultKind::StopResume => self.operator.stop_and_resume(&self.members),
            FaultKind::Drain => self.is_drained(executor(which), lasts),
            FaultKind::Submit => self.operator.submit(&self.members, which),
        }
    }

    fn feels(&mut self, node: usize, kind: FaultKind) {
        self.felt.entry(node).or_default().insert(kind);
    }

    fn falls(&mut self, node: usize, signal: Signal, fault: Fault) -> Result<bool> {
        self.bounce(node, signal, fault.lasts).map(|()| true)
    }

    fn sleeps(&mut self, node: usize, lasts: Duration) -> Result<bool> {
        self.members.server(node)?.signal(Signal::STOP)?;
        self.pass(lasts)?;
        self.members.server(node)?.signal(Signal::CONT)?;
        Ok(true)
    }

    /// What goes these ways does not arrive for a while.
    fn parts(&mut self, ways: &[(usize, usize)], lasts: Duration) -> Result<bool> {
        ways.iter().try_for_each(|(from, to)| self.members.network.cut(*from, *to, true))?;
        self.pass(lasts)?;
        ways.iter().try_for_each(|(from, to)| self.members.network.cut(*from, *to, false))?;
        Ok(true)
    }

    fn is_troubled(&mut self, which: u64, trouble: Trouble, lasts: Duration) -> Result<bool> {
        // Somebody who has much to say: a follower has not.
        let node = if which.is_multiple_of(3) { self.members.leader()? } else { executor(which) };
        self.members.network.trouble(trouble, node)?;
        self.pass(lasts)?;
        Ok(self.members.network.soothe(trouble, node)? > 0)
    }

    /// Gives a process an order, which stands until somebody calms it. False if it met nothing.
    fn is_ordered(&mut self, node: usize, order: Order, value: i64) -> Result<bool> {
        let before = self.members.server(node)?.control.met(order)?;
        self.members.server(node)?.control.order(order, value)?;
        self.until(MEETS_MAX, |trial| Ok(trial.members.server(node)?.control.met(order)? > before))
    }

    /// `truly`: on a small disk that is full, where there is one. Then it has come about if the process could not go on.
    fn has_no_room(&mut self, node: usize, truly: bool, fault: Fault) -> Result<bool> {
        self.feels(node, fault.kind);
        if truly && self.members.has_small_disk(node) {
            self.members.fill_disk(node, true)?;
            self.until(MEETS_MAX, |trial| Ok(trial.members.server(node)?.ended()?.is_some()))?;
            self.pass(fault.lasts)?;
            self.members.fill_disk(node, false)?;
            return self.recovers(node);
        }
        let met = self.is_ordered(node, Order::IsFull, 1)?;
        self.pass(fault.lasts)?;
        self.members.server(node)?.control.calm()?;
        self.recovers(node)?;
        Ok(met)
    }

    /// A process whose disk has failed may have ended; then it is started again, as an operator does. Whether it had.
    fn recovers(&mut self, node: usize) -> Result<bool> {
        // One that is about to end does it now: nobody is left to take it for a process that ended by itself.
        let had = self.until(ENDS_MAX, |trial| Ok(trial.members.server(node)?.ended()?.is_some()))?;
        if had {
            self.damage(node, "a disk without room or syncs: it ends, and is started again")?;
            self.members.begin(node)?;
        }
        self.takes_part(node)?;
        Ok(had)
    }

    /// An executor that gets no more memory needs some for its part of a new generation, at the latest.
    fn starves(&mut self, node: usize, kind: FaultKind) -> Result<bool> {
        self.feels(node, kind);
        self.members.server(node)?.weigh();
        self.members.server(node)?.starve()?;
        let mut died = false;
        for parallelism in STARVED {
            self.rescale(parallelism)?;
            died = died || self.until(STARVES_MAX, |trial| Ok(trial.members.server(node)?.ended()?.is_some()))?;
        }
        self.members.end(node, Signal::KILL)?;
        self.members.begin(node)?;
        Ok(died)
    }

    fn comes_back_empty(&mut self, node: usize) -> Result<bool> {
        if let Err(error) = self.members.readmit(node) {
            self.violations.push(format!("{} is not readmitted: {error:#}", name(node)));
            return Ok(true);
        }
        self.takes_part(node)?;
        Ok(true)
    }

    /// A bit flips in a journal, and its coordinator reads it again. It refuses with a code, or what it goes on with is
    /// as good as before, which an audit must find; in the end it is readmitted.
    fn is_damaged(&mut self, node: usize, which: u64, fault: Fault, runs: bool) -> Result<bool> {
        self.feels(node, fault.kind);
        let signal = if (which / NODES as u64).is_multiple_of(2) { Signal::KILL } else { Signal::TERM };
        if !runs {
            self.members.end(node, signal)?;
        }
        let flip = Flip::new(&self.members.disk(node), runs, &Random::new(which))?;
        if runs {
            self.pass(fault.lasts)?;
            // Whoever leads reads its journal for an audit.
            if self.members.leader()? == node {
                let found = audit(&self.members, JOB).filter(|error| !error.contains("E0304"));
                self.violations.extend(found.map(|error| format!("after {flip:?}: {error}")));
            }
            self.members.end(node, signal)?;
        }
        let before = self.members.server(node)?.said()?.len();
        let goes_on = self.members.try_begin(node)?
            && !self.until(ENDS_MAX, |trial| Ok(trial.members.server(node)?.ended()?.is_some()))?;
        let said = self.members.server(node)?.said()?;
        let code = said.get(before..).and_then(|new| new.split("error[").nth(1)?.get(..5).map(str::to_owned));
        match (goes_on, code) {
            (true, _) => self.damage(node, "a flipped bit: it goes on")?,
            (false, Some(code)) => self.damage(node, &format!("a flipped bit: {code}"))?,
            (false, None) => {
                let new = said.get(before..).unwrap_or_default().trim();
                self.violations.push(format!("{} ends without a code after {flip:?}: {new}", name(node)));
            }
        }
        if goes_on {
            self.takes_part(node)?;
        }
        self.members.end(node, Signal::KILL)?;
        self.comes_back_empty(node)
    }

    fn damage(&mut self, node: usize, said: &str) -> Result<()> {
        let role = name(node);
        let role = role.split('-').next().context("a name")?;
        *self.damages.entry(format!("{role}: {said}")).or_default() += 1;
        Ok(())
    }

    /// False if nobody else could take over.
    fn is_drained(&mut self, node: usize, lasts: Duration) -> Result<bool> {
        let drained = self.members.console.insist(&["cluster", "drain", &name(node)], |error| error.contains("E0612"));
        self.pass(lasts)?;
        self.members.console.insist(&["cluster", "drain", &name(node), "--undo"], |_| false)?;
        match drained {
            Err(error) if format!("{error:#}").contains("E0612") => Ok(false),
            done => done.map(|_| true),
        }
    }

    fn rolls(&mut self) -> Result<bool> {
        for node in COORDINATORS..NODES {
            self.members.console.insist(&["cluster", "drain", &name(node)], |error| error.contains("E0612"))?;
            self.bounce(node, Signal::TERM, Duration::ZERO)?;
            let is_back = self.until(PROGRESS_MAX, |trial| trial.is_attached(node))?;
            if !is_back {
                self.violations.push(format!("{} is not attached again", name(node)));
            }
        }
        // The leader last: whoever follows it is up to date by then.
        let leader = self.members.leader()?;
        for node in (1..=COORDINATORS).map(|step| (leader + step) % COORDINATORS) {
            self.bounce(node, Signal::TERM, Duration::ZERO)?;
            self.takes_part(node)?;
        }
        Ok(true)
    }

    fn is_attached(&self, node: usize) -> Result<bool> {
        let status = self.members.console.insist(&["cluster", "status"], |_| false)?;
        let executors = status["executors"].as_array().context("no executors")?;
        Ok(executors.iter().any(|executor| executor["node"] == name(node) && executor["attached"] == true))
    }
}
