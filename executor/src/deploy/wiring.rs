//! The queues of a generation.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use qanat_proto::control::Deployment;
use qanat_proto::ids::OperatorId;
use qanat_proto::physical::{PhysicalEdge, PhysicalGraph, Routing};
use qanat_proto::{Error, Result};

use crate::exchange::{EdgeKey, IncomingEdge, OutgoingEdge, Pair};
use crate::memory::JobMemory;
use crate::metrics::LinkMetrics;
use crate::task::channel::Channel;

/// The queues between tasks: per edge, `[sender subtask][receiver subtask]`. None where neither end is here.
pub(super) struct Wiring {
    channels: Vec<(PhysicalEdge, Vec<Vec<Option<Arc<Channel>>>>)>,
}

impl Wiring {
    pub(super) fn new(physical: &PhysicalGraph, here: &[bool], memory: &Arc<JobMemory>) -> Self {
        let edges = physical.edges.iter().filter(|edge| edge.routing != Routing::Chained);
        let channels = edges.map(|edge| {
            let senders = here.iter().map(|sends_here| {
                let channel =
                    |receives_here: &bool| (*sends_here || *receives_here).then(|| Channel::new(memory.clone()));
                match edge.routing {
                    // Both ends have one number, and so one place.
                    Routing::Forward => vec![channel(sends_here)],
                    // Markers go to every receiver, so a shuffle has a queue for each pair.
                    _ => here.iter().map(channel).collect(),
                }
            });
            (edge.clone(), senders.collect())
        });
        Self { channels: channels.collect() }
    }

    /// The queues on which subtask `index` of `from` sends, per edge.
    pub(super) fn outgoing(
        &self,
        from: OperatorId,
        index: u32,
    ) -> impl Iterator<Item = (&PhysicalEdge, Vec<Arc<Channel>>)> {
        self.channels.iter().filter(move |(edge, _)| edge.from == from).filter_map(move |(edge, senders)| {
            Some((edge, senders.get(index as usize)?.iter().flatten().cloned().collect()))
        })
    }

    /// The queues on which subtask `index` of `to` receives, per edge.
    pub(super) fn incoming(
        &self,
        to: OperatorId,
        index: u32,
    ) -> impl Iterator<Item = (&PhysicalEdge, Vec<Arc<Channel>>)> {
        self.channels.iter().filter(move |(edge, _)| edge.to == to).map(move |(edge, senders)| {
            let queues: Vec<_> = if edge.routing == Routing::Forward {
                senders.get(index as usize).and_then(|row| row.first()).cloned().flatten().into_iter().collect()
            } else {
                senders.iter().filter_map(|row| row.get(index as usize).cloned().flatten()).collect()
            };
            (edge, queues)
        })
    }

    /// The queues with one end here: by edge and executor those that lead away, and by edge those that come in.
    pub(super) fn remote(
        &self,
        deployment: &Deployment,
        schemas: &BTreeMap<OperatorId, SchemaRef>,
        here: &[bool],
    ) -> Result<(Vec<OutgoingEdge>, BTreeMap<EdgeKey, IncomingEdge>)> {
        let is_here = |index: u32| here.get(index as usize).copied().unwrap_or(true);
        let (mut outgoing, mut incoming) = (Vec::new(), BTreeMap::new());
        for (edge, senders) in self.channels.iter().filter(|(edge, _)| edge.routing != Routing::Forward) {
            let key = EdgeKey { from: edge.from, to: edge.to, port: edge.port };
            let schema = schemas.get(&edge.from).cloned().ok_or_else(|| Error::internal("an edge without a schema"))?;
            let mut away: BTreeMap<String, BTreeMap<Pair, Arc<Channel>>> = BTreeMap::new();
            let mut channels = BTreeMap::new();
            for (sender, receivers) in (0..).zip(senders) {
                for (receiver, channel) in (0..).zip(receivers) {
                    let Some(channel) = channel else { continue };
                    let pair = Pair { sender, receiver };
                    match (is_here(sender), is_here(receiver)) {
                        (true, false) => {
                            let address = deployment.host(receiver).map(|host| host.address.clone());
                            away.entry(address.unwrap_or_default()).or_default().insert(pair, channel.clone());
                        }
                        (false, true) => {
                            let host =
                                deployment.host(sender).ok_or_else(|| Error::internal("a sender without a host"))?;
                            channels.insert(pair, (host.start, channel.clone()));
                        }
                        _ => {}
                    }
                }
            }
            for (address, channels) in away {
                let metrics = Arc::new(LinkMetrics::new(channels.len()));
                let compression = deployment.settings.exchange_compression;
                let schema = schema.clone();
                outgoing.push(OutgoingEdge { key, schema, address, channels, compression, metrics });
            }
            if !channels.is_empty() {
                incoming.insert(key, IncomingEdge { schema, channels });
            }
        }
        Ok((outgoing, incoming))
    }
}
