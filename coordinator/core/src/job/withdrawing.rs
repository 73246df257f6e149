//! After a rollback: the next generation takes back what was withdrawn before it does anything else (P10).

use qanat_proto::control::ExecutorMessage;
use qanat_proto::ids::StartId;
use qanat_proto::zoo::{Bug, planted};

use super::{JobDriver, Output, Phase};
use crate::command::Command;
use crate::job::running::Running;
use crate::state::State;

impl JobDriver {
    /// The rollback is decided: what runs can claim nothing any more, and the next generation opens at once.
    pub(super) fn on_rolled_back(&mut self, state: &State, now_ms: u64, out: &mut Vec<Output>) {
        if state.job(self.job).is_some_and(|job| job.generation_open) {
            // A repeat of a request that was done before.
            return;
        }
        self.stop_executors(state, out);
        self.moves = false;
        self.phase = Phase::Waiting { until_ms: now_ms, proposed: false };
    }

    /// All executors hold the restored generation.
    pub(super) fn withdraw_or_replay(
        &mut self,
        state: &State,
        now_ms: u64,
        running: Box<Running>,
        out: &mut Vec<Output>,
    ) {
        let Some(job) = state.job(self.job) else { return };
        if job.withdrawing.is_empty() || planted(Bug::SkipWithdrawal) {
            self.replay(state, now_ms, running, out);
            return;
        }
        let waiting = running.send_committer(&ExecutorMessage::Withdraw(job.withdrawing.clone()), out);
        self.phase = Phase::Withdrawing { running, waiting };
    }

    /// An executor has taken back all that it was told to.
    pub(super) fn on_taken_back(&mut self, start: StartId, out: &mut Vec<Output>) {
        let Phase::Withdrawing { running, waiting } = &mut self.phase else { return };
        if waiting.remove(&start) && waiting.is_empty() {
            out.push(Output::Propose(Command::Withdrawn { token: running.token }));
        }
    }

    /// That is recorded: what the withdrawn epochs alone named may be collected, and the generation goes on.
    pub(super) fn on_withdrawn(&mut self, state: &State, now_ms: u64, out: &mut Vec<Output>) {
        if !matches!(self.phase, Phase::Withdrawing { .. }) {
            return;
        }
        let Phase::Withdrawing { running, .. } = std::mem::replace(&mut self.phase, Phase::Ended) else { return };
        out.push(Output::Collect);
        if state.job(self.job).is_some_and(|job| job.status.is_ended()) {
            running.send_all(&ExecutorMessage::Stop, out);
            return;
        }
        self.replay(state, now_ms, running, out);
    }
}
