//! The sending end: takes elements from the channels of one edge and carries them to one executor.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{FlightData, FlightDescriptor};
use prost::Message;
use qanat_proto::rpc::exchange::{Backward, Open};
use qanat_proto::{Code, Error, Place, Result, limits};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

use crate::exchange::link::Encoder;
use crate::exchange::{EdgeKey, Exchange, Pair};
use crate::metrics::LinkMetrics;
use crate::node::Reporter;
use crate::task::channel::{Channel, Element};

/// Between two rounds over the channels, while there is something to send.
const LINGER: Duration = Duration::from_millis(1);
/// Messages that wait for the connection.
const QUEUED: usize = 4;

/// The channels of one edge that lead to one executor.
pub struct OutgoingEdge {
    pub key: EdgeKey,
    pub schema: SchemaRef,
    /// Where the executor listens, and the name that people know it by.
    pub address: String,
    pub channels: BTreeMap<Pair, Arc<Channel>>,
    pub metrics: Arc<LinkMetrics>,
}

/// The links of a generation. Dropping them cuts them.
#[derive(Default)]
pub struct LinkHandles(Vec<JoinHandle<()>>);

impl Drop for LinkHandles {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl LinkHandles {
    /// Opens the link of an edge and keeps it. What ends it ends the generation.
    pub fn start(&mut self, exchange: &Exchange, edge: OutgoingEdge, reporter: Reporter) {
        let exchange = exchange.clone();
        self.0.push(exchange.runtime.clone().spawn(async move {
            let address = edge.address.clone();
            if let Err(error) = run(&exchange, edge, &reporter).await {
                reporter.fail(None, error.or_at(|| Place::Named(address)));
            }
        }));
    }
}

struct Lane {
    pair: Pair,
    channel: Arc<Channel>,
    /// What is on its way or waits at the far end.
    elements: usize,
    bytes: usize,
    /// Taken from the channel, and the next to go.
    held: Option<Element>,
}

impl Lane {
    /// The next element and what it counts. Of watermarks that follow each other the last says it all.
    fn take(&mut self) -> Option<(Element, usize)> {
        let mut element = match self.held.take() {
            Some(held) => held,
            None => self.pop()?,
        };
        while let Element::Watermark(_) = element {
            match self.pop() {
                Some(later @ Element::Watermark(_)) => {
                    // The one before takes no room at the far end.
                    self.elements -= 1;
                    element = later;
                }
                other => {
                    self.held = other;
                    break;
                }
            }
        }
        let bytes = element.bytes();
        Some((element, bytes))
    }

    fn pop(&mut self) -> Option<Element> {
        if !self.has_credit() {
            return None;
        }
        let element = self.channel.pop()?;
        self.elements += 1;
        self.bytes += element.bytes();
        Some(element)
    }

    fn has_credit(&self) -> bool {
        self.elements < limits::CHANNEL_ELEMENTS && (self.bytes == 0 || self.bytes < limits::CHANNEL_BYTES)
    }
}

fn broken(detail: impl std::fmt::Display) -> Error {
    Error::new(Code::LinkBroken, format!("the link to another executor is broken: {detail}"))
        .hint("the job goes on from its last claimed epoch")
}

fn broken_by(status: &Status) -> Error {
    broken(format_args!("{:?}: {}", status.code(), status.message()))
}

async fn run(exchange: &Exchange, mut edge: OutgoingEdge, reporter: &Reporter) -> Result<()> {
    let dialled = exchange.dial.dial(&edge.address).map_err(|e| broken(format_args!("`{}`: {e}", edge.address)))?;
    let mut client = FlightServiceClient::new(dialled)
        .max_decoding_message_size(limits::DATA_MESSAGE_BYTES)
        .max_encoding_message_size(limits::DATA_MESSAGE_BYTES);
    let open = Open {
        token: reporter.token().to_string(),
        start: exchange.start.to_string(),
        from: edge.key.from.to_string(),
        to: edge.key.to.to_string(),
        port: u32::try_from(edge.key.port).unwrap_or(u32::MAX),
        cluster: exchange.cluster.to_string(),
    };
    let mut encoder = Encoder::new();
    let first = FlightData {
        flight_descriptor: Some(FlightDescriptor::new_cmd(open.encode_to_vec())),
        data_header: encoder.schema(&edge.schema),
        ..FlightData::default()
    };
    let (sender, messages) = mpsc::channel(QUEUED);
    let _ = sender.send(first).await;
    let call = client.do_exchange(Request::new(ReceiverStream::new(messages)));
    let limit = Duration::from_millis(limits::CONNECT_TIMEOUT_MS);
    let answer = tokio::time::timeout(limit, call).await.map_err(|_| broken("it does not answer"))?;
    let mut answers = answer.map_err(|status| broken_by(&status))?.into_inner();
    let notify = Arc::new(Notify::new());
    let lanes = std::mem::take(&mut edge.channels).into_iter().map(|(pair, channel)| {
        let notify = notify.clone();
        channel.set_forwarder(Arc::new(move || notify.notify_one()));
        Lane { pair, channel, elements: 0, bytes: 0, held: None }
    });
    let mut lanes: Vec<Lane> = lanes.collect();
    let mut last = Instant::now();
    loop {
        let mut has_sent = false;
        for lane in &mut lanes {
            while lane.held.is_some() || lane.has_credit() {
                let Some((element, bytes)) = lane.take() else { break };
                if let Some(message) = encoder.add(lane.pair, element, bytes)? {
                    sender.send(message).await.map_err(|_| broken("the connection has ended"))?;
                }
                has_sent = true;
            }
        }
        if let Some(message) = encoder.finish() {
            sender.send(message).await.map_err(|_| broken("the connection has ended"))?;
        }
        edge.metrics.set_in_flight(lanes.iter().map(|lane| lane.bytes as u64).sum());
        let next = next_answer(&mut answers);
        if has_sent {
            // Others may go on meanwhile, and what has come back is heard. What comes in the next moment goes
            // together: watermarks are many, and a message costs more than what is in it.
            tokio::select! {
                biased;
                answer = next => take(&mut lanes, answer?)?,
                () = tokio::time::sleep_until(last + LINGER) => last = Instant::now(),
            }
        } else {
            tokio::select! {
                answer = next => take(&mut lanes, answer?)?,
                () = notify.notified() => {}
            }
        }
    }
}

async fn next_answer(answers: &mut Streaming<FlightData>) -> Result<Backward> {
    let answer = answers.message().await.map_err(|status| broken_by(&status))?;
    let answer = answer.ok_or_else(|| broken("the other end has closed it"))?;
    Backward::decode(answer.app_metadata).map_err(|_| Error::internal("an executor answered what cannot be read"))
}

fn take(lanes: &mut [Lane], answer: Backward) -> Result<()> {
    let unknown = || Error::internal("an executor answered for a channel that there is not");
    for credit in answer.credits {
        let pair = Pair { sender: credit.sender, receiver: credit.receiver };
        let index = lanes.binary_search_by_key(&pair, |lane| lane.pair).map_err(|_| unknown())?;
        let lane = lanes.get_mut(index).ok_or_else(unknown)?;
        lane.elements = lane.elements.checked_sub(credit.elements as usize).ok_or_else(unknown)?;
        let bytes = usize::try_from(credit.bytes).unwrap_or(usize::MAX);
        lane.bytes = lane.bytes.checked_sub(bytes).ok_or_else(unknown)?;
    }
    for adopted in answer.adopted {
        let pair = Pair { sender: adopted.sender, receiver: adopted.receiver };
        let index = lanes.binary_search_by_key(&pair, |lane| lane.pair).map_err(|_| unknown())?;
        lanes.get(index).ok_or_else(unknown)?.channel.acknowledge_wake(adopted.watermark);
    }
    Ok(())
}
