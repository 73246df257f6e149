//! The executor's end of its link to the leader: finds it, registers, keeps its lease, and passes messages both ways.
//!
//! What is reported while no leader is known is dropped: the next one asks for all of it again. Nothing stops here
//! meanwhile; only claims need a leader.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::Receiver;
use qanat_proto::control::{FromExecutor, ToExecutor};
use qanat_proto::rpc::cluster::nodes_client::NodesClient;
use qanat_proto::rpc::cluster::{
    CoordinatorEvent, ExecutorEvent, Heartbeat, Register, Registered, coordinator_event, executor_event,
};
use qanat_proto::rpc::dial::Dial;
use qanat_proto::rpc::status::{error_of, leader_of};
use qanat_proto::{Code, Error, Place, limits};
use qanat_storage::env::thread;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Status, Streaming};

use crate::node::Node;

/// Between two rounds of asking every coordinator.
const PAUSE: Duration = Duration::from_millis(20);

/// Who attaches, and to what.
pub struct AttachConfig {
    pub cluster: String,
    /// Name of this node: the same after every start.
    pub node: String,
    /// Of the node's own folder: the number that was drawn when it was made, and how often a process was started on it.
    pub folder: u64,
    pub incarnation: u64,
    pub slots: u32,
    /// Where other executors reach its exchange.
    pub data_address: String,
    /// Addresses of coordinators; one that leads names the others' place.
    pub coordinators: Vec<String>,
    pub dial: Arc<dyn Dial>,
    /// Told once it is attached for the first time.
    pub on_attached: Box<dyn Fn() + Send + Sync>,
}

/// Keeps `node` attached to whoever leads, for as long as the future is polled. `reports` is what the node says.
///
/// # Errors
/// What makes every further try useless: another cluster's coordinators; E0611 if another executor of this name lives.
pub async fn keep_attached(
    config: AttachConfig,
    node: Arc<Node>,
    reports: Receiver<FromExecutor>,
) -> qanat_proto::Result<()> {
    let mut reports = on_this_side(reports);
    let mut candidates: VecDeque<String> = VecDeque::new();
    let mut left = String::new();
    let mut refused = None;
    let mut leaderless = Leaderless::default();
    let mut taken = Taken::default();
    loop {
        if candidates.is_empty() {
            tokio::time::sleep(PAUSE).await;
            // The one that was left last is asked last.
            let (last, others): (Vec<_>, Vec<_>) = config.coordinators.iter().cloned().partition(|a| *a == left);
            candidates.extend(others.into_iter().chain(last));
        }
        let Some(address) = candidates.pop_front() else { continue };
        let Err(status) = attach(&config, &node, &address, &mut reports, &mut leaderless).await else { continue };
        let error = error_of(&status);
        let is_name_taken = error.code() == Code::NodeNameTaken;
        // By one that is connected, and not by one that may be gone.
        if is_name_taken && status.code() == tonic::Code::AlreadyExists {
            if taken.lasts(&address, Instant::now()) {
                return Err(error);
            }
        } else {
            taken.says_otherwise(&address);
        }
        if is_name_taken {
            leaderless.over();
        } else {
            leaderless.tell();
        }
        left.clone_from(&address);
        if error.code() == Code::CertificateRefused {
            if status.code() == tonic::Code::PermissionDenied {
                return Err(error.or_at(|| Place::Named(address)));
            }
            // One coordinator whose certificate is past its time does not end this executor, too.
            if refused.as_ref() != Some(&error) {
                tracing::warn!(address, %error, "not attached");
                refused = Some(error);
            }
        } else if status.code() == tonic::Code::PermissionDenied {
            return Err(Error::new(Code::Usage, status.message().to_owned())
                .at(Place::Named(address))
                .hint("look at --cluster-id and --coordinators"));
        }
        if let Some(leader) = leader_of(&status)
            && leader != address
        {
            candidates.push_front(leader);
        }
        tracing::debug!(address, %status, "not attached");
    }
}

/// Moves reports from the node's threads to the runtime.
fn on_this_side(reports: Receiver<FromExecutor>) -> UnboundedReceiver<FromExecutor> {
    let (sender, receiver) = unbounded_channel();
    tokio::spawn(thread::blocking(move || {
        for report in thread::messages(&reports) {
            if sender.send(report).is_err() {
                return;
            }
        }
    }));
    receiver
}

/// One connection, until it ends.
async fn attach(
    config: &AttachConfig,
    node: &Node,
    address: &str,
    reports: &mut UnboundedReceiver<FromExecutor>,
    leaderless: &mut Leaderless,
) -> Result<(), Status> {
    let channel = config.dial.dial(address).map_err(Status::invalid_argument)?;
    let mut client = NodesClient::new(channel)
        .max_decoding_message_size(limits::CONTROL_MESSAGE_BYTES)
        .max_encoding_message_size(limits::CONTROL_MESSAGE_BYTES);
    let (outbox, events) = unbounded_channel();
    let holds = serde_json::to_vec(&node.holds()).map_err(|e| Status::internal(e.to_string()))?;
    let register = Register {
        cluster: config.cluster.clone(),
        node: config.node.clone(),
        start: node.start_id().to_string(),
        slots: config.slots,
        data_address: config.data_address.clone(),
        holds,
        folder: format!("{:016x}", config.folder),
        incarnation: config.incarnation,
    };
    let _ = outbox.send(event(executor_event::Event::Register(register)));
    // What was said before belongs to the leader that is gone.
    while reports.try_recv().is_ok() {}
    let limit = Duration::from_millis(limits::LEADER_SILENCE_MS);
    let call = client.attach(Request::new(UnboundedReceiverStream::new(events)));
    let answer = tokio::time::timeout(limit, call).await;
    let mut messages = answer.map_err(|_| Status::deadline_exceeded("no answer"))??.into_inner();
    let first = tokio::time::timeout(limit, messages.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("no answer"))??;
    let Some(CoordinatorEvent { event: Some(coordinator_event::Event::Registered(registered)) }) = first else {
        return Err(Status::internal("the coordinator did not answer the registration"));
    };
    tracing::info!(address, "attached");
    leaderless.over();
    (config.on_attached)();
    pump(node, &registered, &mut messages, &outbox, reports).await
}

/// How long nobody has led: what runs goes on for as long as it needs no decision, and that must not look like health.
#[derive(Default)]
struct Leaderless {
    since: Option<Instant>,
    was_told: bool,
}

impl Leaderless {
    /// Nobody leads now.
    fn tell(&mut self) {
        let since = *self.since.get_or_insert_with(Instant::now);
        if !self.was_told && since.elapsed() >= Duration::from_millis(limits::LEADERLESS_TOLD_MS) {
            self.was_told = true;
            let error = Error::new(Code::NoQuorum, "no coordinator leads")
                .hint("jobs read on until an epoch is as large as it may be, and nothing becomes visible meanwhile");
            tracing::warn!(%error, hint = error.hint_text(), "this executor has no leader");
        }
    }

    fn over(&mut self) {
        if std::mem::take(self).was_told {
            tracing::warn!("this executor has a leader again");
        }
    }
}

/// How long one leader has said that another executor of this one's name is connected. One that is gone is so for as long
/// as its lease; to another leader it would have to connect anew.
#[derive(Default)]
struct Taken {
    leader: String,
    since: Option<Instant>,
}

impl Taken {
    /// The leader says so (again). Whether it will not change any more.
    fn lasts(&mut self, leader: &str, now: Instant) -> bool {
        // After some time without a word it is another matter.
        let is_same = self.leader == leader && self.since.is_some_and(|since| now - since < Self::LIMIT * 2);
        if !is_same {
            (self.leader, self.since) = (leader.to_owned(), Some(now));
        }
        self.since.is_some_and(|since| now - since >= Self::LIMIT)
    }

    /// Whoever is there does not lead, does not answer, or has not heard of the other one: if it says so again, that one
    /// has connected anew.
    fn says_otherwise(&mut self, address: &str) {
        if self.leader == address {
            *self = Self::default();
        }
    }

    const LIMIT: Duration = Duration::from_millis(limits::NODE_NAME_TAKEN_MS);
}

async fn pump(
    node: &Node,
    registered: &Registered,
    messages: &mut Streaming<CoordinatorEvent>,
    outbox: &UnboundedSender<ExecutorEvent>,
    reports: &mut UnboundedReceiver<FromExecutor>,
) -> Result<(), Status> {
    let gone = || Status::unavailable("the connection has ended");
    let mut heard = Instant::now();
    let mut heartbeats = tokio::time::interval(Duration::from_millis(u64::from(registered.heartbeat_ms.max(1))));
    heartbeats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let silence = Duration::from_millis(limits::LEADER_SILENCE_MS);
    loop {
        tokio::select! {
            message = tokio::time::timeout_at(heard + silence, messages.message()) => {
                let message = message.map_err(|_| Status::deadline_exceeded("the leader says nothing"))?;
                let Some(message) = message? else { return Err(gone()) };
                heard = Instant::now();
                if let Some(coordinator_event::Event::Message(body)) = message.event {
                    let message: ToExecutor = serde_json::from_slice(&body)
                        .map_err(|e| Status::invalid_argument(format!("a message cannot be read: {e}")))?;
                    node.send(message);
                }
            }
            report = reports.recv() => {
                let Some(report) = report else { return Ok(()) };
                let body = serde_json::to_vec(&report).map_err(|e| Status::internal(e.to_string()))?;
                outbox.send(event(executor_event::Event::Message(body))).map_err(|_| gone())?;
            }
            _ = heartbeats.tick() => {
                let heartbeat = Heartbeat { jobs: node.figures() };
                outbox.send(event(executor_event::Event::Heartbeat(heartbeat))).map_err(|_| gone())?;
            }
        }
    }
}

fn event(event: executor_event::Event) -> ExecutorEvent {
    ExecutorEvent { event: Some(event) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_for_good_after_every_lease_has_ended() {
        let begun = Instant::now();
        let at = |ms: u64| begun + Duration::from_millis(ms);
        let limit = limits::NODE_NAME_TAKEN_MS;
        let mut taken = Taken::default();
        assert!(!taken.lasts("a", at(0)) && !taken.lasts("a", at(limit - 1)));
        assert!(!taken.lasts("b", at(limit)), "to another leader it has connected anew");
        assert!(!taken.lasts("b", at(2 * limit - 1)) && taken.lasts("b", at(2 * limit)));
        assert!(!taken.lasts("b", at(9 * limit)), "that was long ago");
        taken.says_otherwise("c");
        assert!(taken.lasts("b", at(10 * limit)), "whoever does not lead has no say");
        taken.says_otherwise("b");
        assert!(!taken.lasts("b", at(10 * limit)), "it was away, and leads anew");
    }
}
