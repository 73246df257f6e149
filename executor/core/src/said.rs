//! What a generation has said, for a leader that asks again: it hears nothing that was said to the one before (P4).

use qanat_proto::control::{CoordinatorMessage, SubtaskReport};
use qanat_proto::ids::Epoch;
use qanat_proto::zoo::{Bug, planted};

/// The reports of the newest epoch, and the failure, of one generation in one process.
#[derive(Clone, Debug, Default)]
pub struct Said {
    epoch: Epoch,
    reports: Vec<SubtaskReport>,
    failure: Option<CoordinatorMessage>,
}

impl Said {
    /// Remembers what may be asked for again.
    pub fn note(&mut self, message: &CoordinatorMessage) {
        match message {
            CoordinatorMessage::Prepared { epoch, report } => {
                if self.epoch != *epoch {
                    (self.epoch, self.reports) = (*epoch, Vec::new());
                }
                self.reports.push((**report).clone());
            }
            CoordinatorMessage::Failed { .. } => self.failure = Some(message.clone()),
            _ => {}
        }
    }

    /// What was reported about an epoch, if it is the newest.
    pub fn reports(&self, epoch: Epoch) -> impl Iterator<Item = CoordinatorMessage> {
        let reports = self.reports.iter().filter(move |_| self.epoch == epoch && !planted(Bug::ForgetReports));
        reports.map(move |report| CoordinatorMessage::Prepared { epoch, report: Box::new(report.clone()) })
    }

    /// That the generation stands, or why it does not.
    pub fn deployed(&self) -> CoordinatorMessage {
        self.failure.clone().unwrap_or(CoordinatorMessage::Deployed)
    }
}
