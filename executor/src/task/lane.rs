//! Lanes: threads that do a connector's blocking work, joined to the compute pool by bounded queues.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, unbounded};
use qanat_connectors::contract::SinkWriter;
use qanat_proto::ids::{Epoch, OperatorId};
use qanat_proto::{Error, Result};
use qanat_storage::env::failpoint::failpoint;
use qanat_storage::env::thread::{self, JoinHandle};

use crate::node::Reporter;
use crate::task::channel::{Channel, Element};
use crate::task::collector::Collector;
use crate::task::pool::panic_error;

/// Runs `work` on a thread of its own; an error or a panic fails the generation.
///
/// # Errors
/// E0214 if the system gives no more threads.
pub fn spawn(
    name: String,
    reporter: Reporter,
    work: impl FnOnce() -> Result<()> + Send + 'static,
) -> Result<JoinHandle<()>> {
    let run = move || {
        let span = reporter.span().clone();
        let _inside = span.enter();
        let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|p| Err(panic_error(p.as_ref())));
        if let Err(error) = result {
            reporter.fail(None, error);
        }
    };
    thread::spawn(name, run).map_err(|e| Error::io("start a lane thread", &e))
}

/// Feeds one [`SinkWriter`]. Rows and barriers arrive through `channel`; the collector of each barrier
/// arrives beside it, in the same order.
pub struct SinkLane {
    pub operator: OperatorId,
    pub channel: Arc<Channel>,
    collectors: Sender<Arc<Collector>>,
}

impl SinkLane {
    /// Starts the lane. `epoch` is the one that is open.
    ///
    /// # Errors
    /// E0214 if the system gives no more threads.
    pub fn start(
        operator: OperatorId,
        channel: Arc<Channel>,
        mut writer: Box<dyn SinkWriter>,
        epoch: Epoch,
        reporter: Reporter,
    ) -> Result<(Self, JoinHandle<()>)> {
        let (collectors, sealed) = unbounded();
        let lane = Self { operator, channel: channel.clone(), collectors };
        let name = format!("sink-{operator}");
        let thread = spawn(name, reporter, move || drive(operator, &channel, writer.as_mut(), epoch, &sealed))?;
        Ok((lane, thread))
    }

    /// Announces the collector of the barrier that is about to be pushed.
    pub fn seal(&self, collector: Arc<Collector>) {
        // The lane may have failed already; then the generation ends anyway.
        let _ = self.collectors.send(collector);
    }
}

fn drive(
    operator: OperatorId,
    channel: &Channel,
    writer: &mut dyn SinkWriter,
    mut epoch: Epoch,
    sealed: &Receiver<Arc<Collector>>,
) -> Result<()> {
    while let Some(element) = channel.pop_blocking() {
        match element {
            Element::Batch { rows, .. } => {
                writer.write(epoch, &rows)?;
                failpoint("sink.write");
            }
            Element::Barrier(barrier) => {
                qanat_proto::check!(I3, barrier == epoch, "sink {operator}: barrier {barrier} in epoch {epoch}")?;
                failpoint("sink.prepare");
                let handles = writer.prepare(epoch)?;
                failpoint("sink.prepared");
                let Ok(collector) = thread::recv(sealed) else { return Ok(()) };
                collector.prepared(operator, handles);
                epoch = epoch.next();
            }
            Element::Watermark(watermark) => writer.watermark(watermark),
            Element::Idle => writer.idle(),
            Element::Active => {}
        }
    }
    Ok(())
}
