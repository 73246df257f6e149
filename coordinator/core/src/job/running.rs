//! A generation that runs: its open epoch, and what it sends to whom.

use std::collections::BTreeSet;

use qanat_proto::control::{ExecutorMessage, ToExecutor};
use qanat_proto::graph::{Operator, SinkNode};
use qanat_proto::ids::{Epoch, StartId, SubtaskId, Token};
use qanat_proto::manifest::{Manifest, PreparedHandle, SinkChannel};
use qanat_proto::physical::PhysicalGraph;
use qanat_proto::receipt::Totals;
use qanat_proto::zoo::{Bug, planted};
use qanat_proto::{Code, Error};

use super::Output;
use super::committing::{Committing, commit_slow};
use crate::checkpoint::EpochReports;
use crate::command::Command;

/// A generation that processes records.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) token: Token,
    /// Its executors; never changes within a generation (P1).
    pub(super) placement: Vec<StartId>,
    pub(super) base: Manifest,
    pub(super) physical: PhysicalGraph,
    /// The open epoch, if one was triggered and not yet claimed.
    pub(super) open: Option<OpenEpoch>,
    /// The claimed epoch whose commit is not yet recorded.
    pub(super) committing: Option<Committing>,
    /// When the next epoch is triggered, unless one is wanted before.
    pub(super) due_ms: u64,
    /// False after the last claim of a job, and while a move waits for a commit.
    pub(super) may_trigger: bool,
    pub(super) wants_barrier: bool,
    /// The newest manifest that was written; becomes progress when its commit is recorded.
    pub(super) written: Option<Box<Manifest>>,
    /// Totals as of the last claim.
    pub(super) totals: Totals,
}

#[derive(Clone, Debug)]
pub(super) struct OpenEpoch {
    pub(super) reports: EpochReports,
    /// P8: counts from the trigger, the commit before or the last sign of progress, whichever is latest.
    pub(super) since_ms: u64,
    pub(super) manifest: ManifestState,
}

#[derive(Clone, Debug)]
pub(super) enum ManifestState {
    Gathering,
    Writing,
    /// Written; claimed as soon as the commit before is recorded.
    Ready {
        claim: Box<Command>,
    },
    Proposed,
}

impl Running {
    pub(super) fn send_all(&self, message: &ExecutorMessage, out: &mut Vec<Output>) {
        for start in &self.placement {
            out.push(Output::Send(ToExecutor { start: *start, token: self.token, message: message.clone() }));
        }
    }

    /// Whether a handle's rows go into a topic.
    pub(super) fn is_of_topic(&self, handle: &PreparedHandle) -> bool {
        let is_topic = |(operator, node): (&Operator, &SinkNode)| {
            operator.id == handle.subtask.operator && node.table.connector == "log"
        };
        handle.channel != SinkChannel::Table || self.base.graph.sinks().any(is_topic)
    }

    /// Sinks are committed and cleared by one executor, so that each effect has one author (P3). Returns whom to
    /// wait for.
    pub(super) fn send_committer(&self, message: &ExecutorMessage, out: &mut Vec<Output>) -> BTreeSet<StartId> {
        let committer = self.placement.iter().take(1);
        for start in committer.clone() {
            out.push(Output::Send(ToExecutor { start: *start, token: self.token, message: message.clone() }));
        }
        committer.copied().collect()
    }

    /// Subtasks as people know them: the operator's name and a number.
    pub(super) fn subtask_names(&self, subtasks: &[SubtaskId]) -> String {
        const NAMES_MAX: usize = 8;
        let name = |subtask: &SubtaskId| {
            let physical = self.physical.operators.iter().find(|operator| operator.id == subtask.operator);
            let logical = physical.and_then(|operator| self.base.graph.operator(operator.logical));
            match logical {
                Some(operator) => format!("{} {}", operator.name, subtask.index),
                None => subtask.to_string(),
            }
        };
        let mut names: Vec<String> = subtasks.iter().take(NAMES_MAX).map(name).collect();
        if subtasks.len() > NAMES_MAX {
            names.push(format!("{} more", subtasks.len() - NAMES_MAX));
        }
        names.join(", ")
    }

    /// Triggers the next epoch when it is due; an error when the open one takes too long.
    pub(super) fn on_time(&mut self, next: Option<Epoch>, now_ms: u64, out: &mut Vec<Output>) -> Option<Error> {
        let settings = &self.base.settings;
        self.may_trigger = next.is_some();
        if let Some(committing) = &mut self.committing
            && !committing.warned
            && now_ms.saturating_sub(committing.since_ms) > settings.epoch_timeout_ms
        {
            committing.warned = true;
            if planted(Bug::GiveUpCommit) {
                committing.record(out);
            }
            out.push(Output::CommitSlow(commit_slow(committing.permit.epoch)));
        }
        if let Some(open) = &self.open {
            // P8: while the commit before is pending, time does not count.
            let overdue = now_ms.saturating_sub(open.since_ms) > settings.epoch_timeout_ms;
            return (overdue && (self.committing.is_none() || planted(Bug::TimeFromTrigger))).then(|| {
                let missing = self.subtask_names(&open.reports.missing());
                Error::new(
                    Code::EpochTimeout,
                    format!("epoch {} did not complete within {} ms", open.reports.epoch, settings.epoch_timeout_ms),
                )
                .hint(format!("no report yet from: {missing}"))
            });
        }
        let due = self.wants_barrier || now_ms >= self.due_ms;
        if let Some(next) = next.filter(|_| due) {
            self.wants_barrier = false;
            self.due_ms = now_ms + settings.epoch_interval_ms;
            self.open = Some(OpenEpoch {
                reports: EpochReports::new(next, &self.physical, self.base.parallelism),
                since_ms: now_ms,
                manifest: ManifestState::Gathering,
            });
            self.send_all(&ExecutorMessage::Trigger { epoch: next }, out);
        }
        None
    }

    pub(super) fn wake_at(&self) -> Option<u64> {
        let settings = &self.base.settings;
        let timeout = settings.epoch_timeout_ms + 1;
        let commit = self.committing.as_ref().filter(|c| !c.warned).map(|c| c.since_ms + timeout);
        let epoch = match &self.open {
            Some(_) if self.committing.is_some() && !planted(Bug::TimeFromTrigger) => None,
            Some(open) => Some(open.since_ms + timeout),
            None if !self.may_trigger => None,
            None => Some(self.due_ms),
        };
        commit.into_iter().chain(epoch).min()
    }

    /// Proposes the claim of a written manifest once the commit before it is recorded (P4).
    pub(super) fn propose_claim(&mut self, out: &mut Vec<Output>) {
        if self.committing.is_some() && !planted(Bug::ClaimBeforeCommit) {
            return;
        }
        let Some(open) = &mut self.open else { return };
        if matches!(open.manifest, ManifestState::Ready { .. })
            && let ManifestState::Ready { claim } = std::mem::replace(&mut open.manifest, ManifestState::Proposed)
        {
            out.push(Output::Propose(*claim));
        }
    }
}
