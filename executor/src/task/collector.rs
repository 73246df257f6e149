//! Gathers the parts of one subtask's report of one epoch.
//!
//! The task seals the epoch at the barrier and goes on at once; sink lanes and the snapshot writer
//! finish later, on their own threads. The last one to finish sends the report.

use std::sync::{Arc, Mutex, PoisonError};

use qanat_proto::control::{CoordinatorMessage, OperatorReport, SubtaskReport};
use qanat_proto::ids::{Epoch, OperatorId};
use qanat_proto::manifest::{PreparedHandle, StateFile};

use qanat_storage::env::failpoint::failpoint;

use crate::node::Reporter;

/// One epoch of one task.
pub struct Collector {
    epoch: Epoch,
    reporter: Reporter,
    open: Mutex<Open>,
}

struct Open {
    /// Things that are not durable yet.
    pending: usize,
    report: SubtaskReport,
}

impl Collector {
    /// `pending` counts the calls to [`Collector::prepared`] and [`Collector::stored`] that will follow.
    pub fn start(epoch: Epoch, reporter: Reporter, parts: Vec<OperatorReport>, pending: usize) -> Arc<Self> {
        let collector = Arc::new(Self {
            epoch,
            reporter,
            open: Mutex::new(Open { pending: pending + 1, report: SubtaskReport { parts } }),
        });
        collector.finish(|_| {});
        collector
    }

    /// A sink lane has made its rows durable.
    pub fn prepared(&self, operator: OperatorId, handles: Vec<PreparedHandle>) {
        self.finish(|report| {
            if let Some(part) = report.parts.iter_mut().find(|part| part.subtask.operator == operator) {
                part.prepared.extend(handles);
            }
        });
    }

    /// The snapshot writer has stored an operator's state.
    pub fn stored(&self, operator: OperatorId, tables: Vec<(String, Vec<StateFile>)>) {
        self.finish(|report| {
            if let Some(part) = report.parts.iter_mut().find(|part| part.subtask.operator == operator) {
                part.tables = tables;
            }
        });
    }

    fn finish(&self, add: impl FnOnce(&mut SubtaskReport)) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        add(&mut open.report);
        open.pending -= 1;
        if open.pending == 0 {
            failpoint("report.send");
            let report = Box::new(std::mem::take(&mut open.report));
            self.reporter.send(CoordinatorMessage::Prepared { epoch: self.epoch, report });
        }
    }
}
