//! The commit of one claimed epoch.

use std::collections::BTreeSet;

use qanat_proto::control::{CommitPermit, ExecutorMessage, ToExecutor};
use qanat_proto::ids::{Epoch, StartId, Token};
use qanat_proto::{Code, Error};

use super::Output;
use super::running::Running;
use crate::apply::handle_names;
use crate::command::Command;
use crate::state::State;

/// A claimed epoch on its way to being visible: its files by one executor of the job, its rows of topics by the owner
/// of the log.
pub(super) struct Committing {
    pub(super) permit: CommitPermit,
    pub(super) files: BTreeSet<StartId>,
    /// Handles of topics that are not appended yet, and the owner's token that was told last.
    pub(super) log: Option<CommitPermit>,
    pub(super) log_told: Option<u64>,
    pub(super) since_ms: u64,
    pub(super) warned: bool,
}

impl Committing {
    /// Sends out a permit in its parts.
    pub(super) fn begin(
        running: &Running,
        state: &State,
        permit: CommitPermit,
        now_ms: u64,
        out: &mut Vec<Output>,
    ) -> Self {
        let has_log_owner = state.job(running.token.job).is_some_and(|job| job.run_with.is_some());
        let (log, files): (Vec<_>, Vec<_>) =
            permit.handles.iter().cloned().partition(|handle| has_log_owner && running.is_of_topic(handle));
        let files = CommitPermit { handles: files, ..permit.clone() };
        let log = (!log.is_empty()).then(|| CommitPermit { handles: log, ..permit.clone() });
        let files = running.send_committer(&ExecutorMessage::Commit(files), out);
        let mut committing = Self { permit, files, log, log_told: None, since_ms: now_ms, warned: false };
        committing.tell_log_owner(running.token, state, out);
        committing
    }

    /// Tells the owner of the log, once each.
    pub(super) fn tell_log_owner(&mut self, token: Token, state: &State, out: &mut Vec<Output>) {
        let (Some(permit), Some(owner)) = (&self.log, state.log_owner) else { return };
        if self.log_told != Some(owner.token) {
            self.log_told = Some(owner.token);
            let message = ExecutorMessage::CommitLog { permit: permit.clone(), owner: owner.token };
            out.push(Output::Send(ToExecutor { start: owner.start, token, message }));
        }
    }

    /// Proposes that the commit is complete, if it is.
    pub(super) fn record_if_done(&self, out: &mut Vec<Output>) {
        if self.is_done() {
            out.push(Output::Propose(Command::Committed {
                token: self.permit.token,
                epoch: self.permit.epoch,
                manifest_key: self.permit.manifest_key.clone(),
                handle_names: handle_names(&self.permit.handles),
            }));
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.files.is_empty() && self.log.is_none()
    }
}

pub(super) fn commit_slow(epoch: Epoch) -> Error {
    Error::new(Code::CommitPending, format!("the commit of epoch {epoch} is not complete yet"))
        .hint("it is claimed and will be retried until it succeeds; look at the sink's storage")
}
