//! The sending end: takes elements from the channels of one edge and carries them to one executor.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow_flight::{FlightData, FlightDescriptor};
use prost::Message as _;
use qanat_proto::receipt::RowSum;
use qanat_proto::rpc::exchange::{Backward, Open};
use qanat_proto::settings::ExchangeCompression;
use qanat_proto::{Code, Error, Place, Result, limits};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tonic::{Status, Streaming};

use crate::exchange::link::{Encoder, Sent};
use crate::exchange::message::{Message, do_exchange};
use crate::exchange::{EdgeKey, Exchange, Pair};
use crate::metrics::LinkMetrics;
use crate::node::Reporter;
use crate::task::channel::{Channel, Element};
use crate::task::coalesce::{Joined, is_worth_a_message};

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
    pub compression: ExchangeCompression,
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
        let runtime = exchange.runtimes.next().clone();
        self.0.push(runtime.spawn(async move {
            let address = edge.address.clone();
            if let Err(error) = run(&exchange, edge, &reporter).await {
                reporter.fail(None, error.or_at(|| Place::Named(address)));
            }
        }));
    }
}

/// The most elements that [`Lane::take`] makes of what waits: joined rows, a large batch, a watermark, another marker.
const TAKEN_MAX: usize = 4;

/// One channel's far end, and what goes there next.
struct Lane {
    pair: Pair,
    channel: Arc<Channel>,
    /// What is on its way or waits at the far end.
    elements: usize,
    bytes: usize,
    /// What waits in the channel may not go yet.
    is_starved: bool,
    /// What waits in the channel is little beside what has just gone, and would better go with what comes next.
    leaves_rest: bool,
}

impl Lane {
    fn new(pair: Pair, channel: Arc<Channel>) -> Self {
        Self { pair, channel, elements: 0, bytes: 0, is_starved: false, leaves_rest: false }
    }

    fn has_credit(&self) -> bool {
        self.elements + TAKEN_MAX <= limits::CHANNEL_ELEMENTS && self.bytes < limits::CHANNEL_BYTES
    }

    /// What goes next. Small batches that wait behind each other go as one, and of the watermarks between them the last
    /// says it all, as at the other end of a shuffle ([`crate::task::coalesce`]): a message costs more than what is in
    /// a small one.
    fn take(&mut self) -> Vec<Sent> {
        self.is_starved = !self.has_credit();
        if self.is_starved {
            return Vec::new();
        }
        let (mut small, mut small_sum) = (Joined::default(), RowSum::default());
        let (mut large, mut watermark, mut popped) = (None, None, 0);
        let marker = loop {
            if small.is_enough() {
                break None;
            }
            popped += 1;
            match self.channel.pop() {
                Some(Element::Batch { rows, sum, bytes }) if !is_worth_a_message(rows.num_rows()) => {
                    small.add(rows, bytes);
                    small_sum.add(sum);
                }
                Some(rows @ Element::Batch { .. }) => {
                    large = Some(rows);
                    break None;
                }
                Some(Element::Watermark(later)) if later < i64::MAX => watermark = Some(later),
                other => break other,
            }
        };
        let (waiting, _) = self.channel.fill();
        self.leaves_rest = small.is_enough() && waiting > 0 && waiting < popped;
        let bytes = small.bytes();
        let pieces = small.into_pieces();
        let small = (!pieces.is_empty()).then_some(Sent::Rows { pieces, sum: small_sum, bytes });
        let watermark = watermark.map(|watermark| Sent::Marker(Element::Watermark(watermark)));
        let taken: Vec<Sent> =
            [small, large.map(Sent::from), watermark, marker.map(Sent::from)].into_iter().flatten().collect();
        self.elements += taken.len();
        for sent in &taken {
            if let Sent::Rows { bytes, .. } = sent {
                self.bytes += bytes;
            }
        }
        taken
    }

    /// What the far end has taken.
    ///
    /// # Errors
    /// E0503 for more than was sent.
    fn credit(&mut self, elements: usize, bytes: usize) -> Result<()> {
        let more = || Error::internal("an executor answered for more than it was sent");
        self.elements = self.elements.checked_sub(elements).ok_or_else(more)?;
        self.bytes = self.bytes.checked_sub(bytes).ok_or_else(more)?;
        Ok(())
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
    let open = Open {
        token: reporter.token().to_string(),
        start: exchange.start.to_string(),
        from: edge.key.from.to_string(),
        to: edge.key.to.to_string(),
        port: u32::try_from(edge.key.port).unwrap_or(u32::MAX),
        cluster: exchange.cluster.to_string(),
    };
    let mut encoder = Encoder::new(&edge.schema, edge.compression)?;
    let first = FlightData {
        flight_descriptor: Some(FlightDescriptor::new_cmd(open.encode_to_vec())),
        data_header: encoder.schema.clone(),
        ..FlightData::default()
    };
    let (sender, messages) = mpsc::channel(QUEUED);
    let _ = sender.send(Message::from(first)).await;
    let call = do_exchange(dialled, messages);
    let limit = Duration::from_millis(limits::CONNECT_TIMEOUT_MS);
    let answer = tokio::time::timeout(limit, call).await.map_err(|_| broken("it does not answer"))?;
    let mut answers = answer.map_err(|status| broken_by(&status))?;
    let notify = Arc::new(Notify::new());
    let lanes = std::mem::take(&mut edge.channels).into_iter().map(|(pair, channel)| {
        let notify = notify.clone();
        channel.set_forwarder(Arc::new(move || notify.notify_one()));
        Lane::new(pair, channel)
    });
    let mut lanes: Vec<Lane> = lanes.collect();
    let mut last = Instant::now();
    loop {
        let mut has_sent_small = false;
        for lane in &mut lanes {
            loop {
                let taken = lane.take();
                if taken.is_empty() {
                    break;
                }
                has_sent_small |= !taken.iter().any(Sent::is_worth_a_message);
                for sent in taken {
                    if let Some(message) = encoder.add(lane.pair, sent)? {
                        sender.send(message).await.map_err(|_| broken("the connection has ended"))?;
                    }
                }
                if lane.leaves_rest {
                    has_sent_small = true;
                    break;
                }
            }
        }
        if let Some(message) = encoder.finish() {
            sender.send(message).await.map_err(|_| broken("the connection has ended"))?;
        }
        edge.metrics.set_in_flight(lanes.iter().map(|lane| lane.bytes as u64).sum());
        // What comes in the next moment goes together: a round costs more than what is in a small one. Large batches
        // are worth one each.
        loop {
            tokio::select! {
                biased;
                answer = next_answer(&mut answers) => {
                    if take(&mut lanes, answer?)? {
                        break;
                    }
                }
                () = notify.notified(), if !has_sent_small => break,
                () = tokio::time::sleep_until(last + LINGER), if has_sent_small => {
                    last = Instant::now();
                    break;
                }
            }
        }
    }
}

async fn next_answer(answers: &mut Streaming<FlightData>) -> Result<Backward> {
    let answer = answers.message().await.map_err(|status| broken_by(&status))?;
    let answer = answer.ok_or_else(|| broken("the other end has closed it"))?;
    Backward::decode(answer.app_metadata).map_err(|_| Error::internal("an executor answered what cannot be read"))
}

/// Books an answer; whether it lets go on what had to wait.
fn take(lanes: &mut [Lane], answer: Backward) -> Result<bool> {
    let unknown = || Error::internal("an executor answered for a channel that there is not");
    let mut goes_on = false;
    for credit in answer.credits {
        let pair = Pair { sender: credit.sender, receiver: credit.receiver };
        let index = lanes.binary_search_by_key(&pair, |lane| lane.pair).map_err(|_| unknown())?;
        let lane = lanes.get_mut(index).ok_or_else(unknown)?;
        lane.credit(credit.elements as usize, usize::try_from(credit.bytes).unwrap_or(usize::MAX))?;
        goes_on |= lane.is_starved && lane.has_credit();
    }
    for adopted in answer.adopted {
        let pair = Pair { sender: adopted.sender, receiver: adopted.receiver };
        let index = lanes.binary_search_by_key(&pair, |lane| lane.pair).map_err(|_| unknown())?;
        lanes.get(index).ok_or_else(unknown)?.channel.acknowledge_wake(adopted.watermark);
    }
    Ok(goes_on)
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
    use arrow::datatypes::Int64Type;
    use qanat_proto::ids::Epoch;
    use qanat_proto::receipt::RowHash;

    use super::*;
    use crate::memory::JobMemory;

    const PAIR: Pair = Pair { sender: 1, receiver: 2 };

    fn batch(values: std::ops::Range<i64>) -> Element {
        let sum = RowSum { rows: (values.end - values.start) as u64, hash: RowHash(values.start as u128) };
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
        Element::batch(RecordBatch::try_from_iter([("n", column)]).expect("one column"), sum)
    }

    fn lane(elements: impl IntoIterator<Item = Element>) -> Lane {
        let channel = Channel::new(Arc::new(JobMemory::new(1 << 30)));
        elements.into_iter().for_each(|element| channel.push(element).expect("has room"));
        Lane::new(PAIR, channel)
    }

    fn told(taken: &[Sent]) -> Vec<String> {
        let tell = |sent: &Sent| match sent {
            Sent::Rows { pieces, sum, bytes } => {
                let values = pieces.iter().flat_map(|rows| rows.column(0).as_primitive::<Int64Type>().values());
                let values: Vec<i64> = values.copied().collect();
                assert_eq!((sum.rows, *bytes), (values.len() as u64, 8 * values.len()));
                assert!(values.windows(2).all(|pair| pair[0] + 1 == pair[1]), "in their order");
                format!("{}..{} #{}", values[0], values[values.len() - 1] + 1, sum.hash.0)
            }
            Sent::Marker(Element::Watermark(watermark)) => format!("watermark {watermark}"),
            Sent::Marker(Element::Barrier(epoch)) => format!("barrier {}", epoch.0),
            Sent::Marker(marker) => format!("{marker:?}"),
        };
        taken.iter().map(tell).collect()
    }

    #[test]
    fn small_batches_go_as_one_and_nothing_overtakes_a_marker() {
        let mut lane = lane([
            batch(0..10),
            Element::Watermark(5),
            batch(10..20),
            Element::Watermark(7),
            Element::Barrier(Epoch(1)),
            batch(20..30),
            batch(30..5_000),
            batch(5_000..5_010),
            Element::Watermark(9),
            Element::Watermark(i64::MAX),
        ]);
        let mut all = Vec::new();
        loop {
            let taken = lane.take();
            if taken.is_empty() {
                break;
            }
            all.push(told(&taken));
        }
        let expected: [&[&str]; 3] = [
            &["0..20 #10", "watermark 7", "barrier 1"],
            &["20..30 #20", "30..5000 #30"],
            &["5000..5010 #5000", "watermark 9", "watermark 9223372036854775807"],
        ];
        assert_eq!(all, expected);
        assert!(!lane.is_starved);
    }

    /// A little that is left behind a full batch goes with what comes next, unless that does not come.
    #[test]
    fn what_is_left_behind_a_full_batch_waits_for_the_next_round() {
        let mut lane = lane((0..9).map(|n| batch(n * 1_000..(n + 1) * 1_000)));
        assert_eq!(told(&lane.take()), ["0..7000 #21000"]);
        assert!(lane.leaves_rest);
        for n in 9..12 {
            lane.channel.push(batch(n * 1_000..(n + 1) * 1_000)).expect("has room");
        }
        assert_eq!(told(&lane.take()), ["7000..12000 #45000"]);
        assert!(!lane.leaves_rest, "nothing is left");
        // As much as has gone is a batch of its own.
        let mut lane = self::lane((0..15).map(|n| batch(n * 1_000..(n + 1) * 1_000)));
        assert_eq!(told(&lane.take()), ["0..7000 #21000"]);
        assert!(!lane.leaves_rest);
    }

    #[test]
    fn no_lane_sends_more_than_the_other_end_has_room_for() {
        let mut lane = lane((0..limits::CHANNEL_ELEMENTS as i64).map(|n| batch(n * 5_000..(n + 1) * 5_000)));
        let mut sent = 0;
        while let taken @ [_, ..] = lane.take().as_slice() {
            sent += taken.len();
        }
        assert!(lane.is_starved && sent <= limits::CHANNEL_ELEMENTS, "{sent}");
        assert!(lane.credit(sent + 1, 0).is_err(), "more than was sent");
        let mut lane = Lane { is_starved: true, ..lane };
        lane.credit(1, 40_000).expect("was sent");
        assert_eq!(lane.take().len(), 1);
    }
}
