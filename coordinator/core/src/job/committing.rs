//! The commit of one claimed epoch.

use std::collections::{BTreeMap, BTreeSet};

use qanat_proto::control::{CommitPermit, ExecutorMessage, ToExecutor};
use qanat_proto::ids::{Epoch, StartId, Token};
use qanat_proto::zoo::{Bug, planted};
use qanat_proto::{Code, Error};

use super::running::Running;
use super::{JobDriver, Output, Phase};
use crate::apply::handle_names;
use crate::command::Command;
use crate::placement::Executor;
use crate::state::State;
use crate::topics::next_topic_owner;

/// A claimed epoch on its way to being visible: its files by one executor of the job, its rows of topics by the owner
/// of each.
#[derive(Clone, Debug)]
pub(super) struct Committing {
    pub(super) permit: CommitPermit,
    pub(super) files: BTreeSet<StartId>,
    /// What is not appended yet, by topic.
    pub(super) log: BTreeMap<String, TopicPart>,
    pub(super) since_ms: u64,
    pub(super) warned: bool,
}

/// The rows of one topic.
#[derive(Clone, Debug)]
pub(super) struct TopicPart {
    permit: CommitPermit,
    /// The owner's token that was told last.
    told: Option<u64>,
}

impl Committing {
    /// Sends out a permit in its parts.
    pub(super) fn begin(
        running: &Running,
        state: &State,
        executors: &[Executor],
        permit: CommitPermit,
        now_ms: u64,
        out: &mut Vec<Output>,
    ) -> Self {
        let has_log_owner = state.job(running.token.job).is_some_and(|job| job.run_with.is_some());
        let (of_topics, files): (Vec<_>, Vec<_>) =
            permit.handles.iter().cloned().partition(|handle| has_log_owner && running.is_of_topic(handle));
        let with = |handles| CommitPermit { handles, ..permit.clone() };
        let mut by_topic: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for handle in of_topics {
            by_topic.entry(handle.topic().to_owned()).or_default().push(handle);
        }
        let log = by_topic.into_iter().map(|(topic, of)| (topic, TopicPart { permit: with(of), told: None })).collect();
        let files = running.send_committer(&ExecutorMessage::Commit(with(files)), out);
        let mut committing = Self { permit, files, log, since_ms: now_ms, warned: false };
        committing.tell_owners(running.token, &running.placement, state, executors, out);
        committing
    }

    /// Tells the owner of each topic, once; a topic that has none, or whose owner is gone, gets another one first.
    pub(super) fn tell_owners(
        &mut self,
        token: Token,
        placement: &[StartId],
        state: &State,
        executors: &[Executor],
        out: &mut Vec<Output>,
    ) {
        let mut next: BTreeMap<StartId, Vec<String>> = BTreeMap::new();
        for (topic, part) in &mut self.log {
            if let Some(start) = next_topic_owner(state, executors, topic, placement) {
                next.entry(start).or_default().push(topic.clone());
                continue;
            }
            let Some(owner) = state.owner_of(topic) else { continue };
            if part.told != Some(owner.token) {
                part.told = Some(owner.token);
                let (topic, permit) = (topic.clone(), part.permit.clone());
                let message = ExecutorMessage::CommitLog { topic, permit, owner: owner.token };
                out.push(Output::Send(ToExecutor { start: owner.start, token, message }));
            }
        }
        out.extend(next.into_iter().map(|(start, topics)| Output::Propose(Command::OwnTopics { start, topics })));
    }

    /// An executor has connected again: what was said while it was away is said again.
    pub(super) fn forget_told(&mut self, start: StartId, state: &State) {
        let is_its = |topic: &str| state.owner_of(topic).is_some_and(|owner| owner.start == start);
        self.log.iter_mut().filter(|(topic, _)| is_its(topic)).for_each(|(_, part)| part.told = None);
    }

    /// Proposes that the commit is complete, if it is.
    pub(super) fn record_if_done(&self, out: &mut Vec<Output>) {
        if self.is_done() {
            self.record(out);
        }
    }

    pub(super) fn record(&self, out: &mut Vec<Output>) {
        out.push(Output::Propose(Command::Committed {
            token: self.permit.token,
            epoch: self.permit.epoch,
            manifest_key: self.permit.manifest_key.clone(),
            handle_names: handle_names(&self.permit.handles),
        }));
    }

    pub(super) fn is_done(&self) -> bool {
        self.files.is_empty() && self.log.is_empty()
    }
}

pub(super) fn commit_slow(epoch: Epoch) -> Error {
    Error::new(Code::CommitPending, format!("the commit of epoch {epoch} is not complete yet"))
        .hint("it is claimed and will be retried until it succeeds; look at the sink's storage")
}

impl JobDriver {
    /// The commit that is under way, if it is this one.
    fn committing(&mut self, epoch: Epoch, manifest_key: &str) -> Option<&mut Committing> {
        let committing = match &mut self.phase {
            Phase::Replaying { committing, .. } => committing,
            Phase::Running(running) => running.committing.as_mut()?,
            _ => return None,
        };
        let is_this = committing.permit.epoch == epoch && committing.permit.manifest_key == manifest_key;
        (is_this || planted(Bug::LateCommit)).then_some(committing)
    }

    /// An executor has made its handles visible.
    pub(super) fn on_committed(&mut self, start: StartId, epoch: Epoch, manifest_key: &str, out: &mut Vec<Output>) {
        let Some(committing) = self.committing(epoch, manifest_key) else { return };
        committing.files.remove(&start);
        committing.record_if_done(out);
    }

    /// The owner of a topic has appended what is for it.
    pub(super) fn on_log_committed(&mut self, topic: &str, epoch: Epoch, manifest_key: &str, out: &mut Vec<Output>) {
        let Some(committing) = self.committing(epoch, manifest_key) else { return };
        if committing.log.remove(topic).is_some() {
            committing.record_if_done(out);
        }
    }
}
