//! How members reach each other: tonic, a deadline on every call, one connection per peer and purpose.

use std::future::Future;
use std::time::Duration;

use futures::future::BoxFuture;
use openraft::BasicNode;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use qanat_proto::limits;
use qanat_proto::rpc::dial::Dial;
use qanat_proto::rpc::raft::raft_client::RaftClient;
use qanat_proto::rpc::raft::{RaftMessage, SnapshotPart};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::removal::Removal;
use super::types::{MemberId, RaftSnapshot, SnapshotBytes, SnapshotMeta, Types, Vote};

/// Makes the connections of one member.
#[derive(Clone)]
pub(crate) struct Network {
    pub(super) cluster: Arc<str>,
    pub(super) me: MemberId,
    pub(super) dial: Arc<dyn Dial>,
    pub(super) removal: Removal,
}

/// A connection to one peer.
pub(crate) struct Peer {
    cluster: Arc<str>,
    me: MemberId,
    id: MemberId,
    client: Result<RaftClient<Channel>, String>,
    removal: Removal,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: MemberId, node: &BasicNode) -> Peer {
        let client = self.dial.dial(&node.addr).map(|channel| {
            RaftClient::new(channel)
                .max_decoding_message_size(limits::CONTROL_MESSAGE_BYTES)
                .max_encoding_message_size(limits::CONTROL_MESSAGE_BYTES)
        });
        Peer { cluster: self.cluster.clone(), me: self.me, id: target, client, removal: self.removal.clone() }
    }
}

type RpcResult<T> = Result<T, RPCError<Types>>;

impl Peer {
    fn client(&self) -> RpcResult<RaftClient<Channel>> {
        self.client.clone().map_err(|detail| RPCError::Unreachable(Unreachable::from_string(detail)))
    }

    fn message(&self, body: &impl Serialize) -> RpcResult<RaftMessage> {
        let body = serde_json::to_vec(body).map_err(|e| RPCError::Network(NetworkError::new(&e)))?;
        Ok(RaftMessage { cluster: self.cluster.to_string(), to: self.id, body })
    }

    /// Holds a call open until the peer or the connection is gone. False if there was no connection at all.
    pub(super) async fn follow(&self) -> bool {
        let (Ok(mut client), Ok(message)) = (self.client(), self.message(&Some(self.me))) else { return false };
        match client.follow(message).await {
            Ok(mut held) => loop {
                match held.get_mut().message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return true,
                    // That this member is none any more is the one thing that it says.
                    Err(status) => {
                        self.removal.note(&status);
                        return true;
                    }
                }
            },
            Err(_) => false,
        }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        rpc: RPCTypes,
        body: &impl Serialize,
        limit: impl FnOnce(usize) -> Duration,
        call: impl FnOnce(
            RaftClient<Channel>,
            Request<RaftMessage>,
        ) -> BoxFuture<'static, Result<Response<RaftMessage>, Status>>,
    ) -> RpcResult<T> {
        let client = self.client()?;
        let message = self.message(body)?;
        let limit = limit(message.body.len());
        let mut request = Request::new(message);
        request.set_timeout(limit);
        match tokio::time::timeout(limit, call(client, request)).await {
            Err(_) => {
                let (id, target) = (self.id, self.id);
                Err(RPCError::Timeout(Timeout { action: rpc, id, target, timeout: limit }))
            }
            Ok(Err(status)) => {
                self.removal.note(&status);
                Err(failed(&status))
            }
            Ok(Ok(response)) => serde_json::from_slice(&response.into_inner().body)
                .map_err(|e| RPCError::Network(NetworkError::new(&e))),
        }
    }
}

/// How long a batch of so many bytes may take: with a fixed limit a large one, or one to a busy machine, would be sent
/// again for ever.
fn batch_limit(bytes: usize) -> Duration {
    let batches = bytes.div_ceil(limits::RAFT_BATCH_BYTES).max(1);
    Duration::from_millis(limits::RAFT_RPC_MS.saturating_mul(batches as u64))
}

/// A peer that cannot be reached is asked again after a pause; anything else at once.
fn failed(status: &Status) -> RPCError<Types> {
    match status.code() {
        tonic::Code::Unavailable | tonic::Code::PermissionDenied | tonic::Code::Unauthenticated => {
            RPCError::Unreachable(Unreachable::new(status))
        }
        _ => RPCError::Network(NetworkError::new(status)),
    }
}

/// The head of a snapshot on its way.
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct SnapshotHead {
    pub(crate) vote: Vote,
    pub(crate) meta: SnapshotMeta,
}

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = SnapshotBytes;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> RpcResult<AppendEntriesResponse<Types>> {
        // The option's limit is that of a heartbeat. Entries are synced at the other end before it answers.
        let is_empty = rpc.entries.is_empty();
        let limit = |bytes| if is_empty { option.hard_ttl() } else { batch_limit(bytes) };
        self.call(RPCTypes::AppendEntries, &rpc, limit, |mut client, request| {
            Box::pin(async move { client.append_entries(request).await })
        })
        .await
    }

    async fn vote(&mut self, rpc: VoteRequest<Types>, option: RPCOption) -> RpcResult<VoteResponse<Types>> {
        self.call(
            RPCTypes::Vote,
            &rpc,
            |_| option.soft_ttl(),
            |mut client, request| Box::pin(async move { client.vote(request).await }),
        )
        .await
    }

    async fn pre_vote(&mut self, rpc: VoteRequest<Types>, option: RPCOption) -> RpcResult<VoteResponse<Types>> {
        self.call(
            RPCTypes::Vote,
            &rpc,
            |_| option.soft_ttl(),
            |mut client, request| Box::pin(async move { client.pre_vote(request).await }),
        )
        .await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: RaftSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + openraft::OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let mut client = self.client().map_err(StreamingError::from)?;
        let head = self.message(&SnapshotHead { vote, meta: snapshot.meta }).map_err(StreamingError::from)?;
        let state = snapshot.snapshot;
        let parts = state.len().div_ceil(limits::RAFT_SNAPSHOT_PART_BYTES);
        let parts = futures::stream::iter(std::iter::once(SnapshotPart { head: Some(head), state: Vec::new() }).chain(
            (0..parts).map(move |index| {
                let from = index * limits::RAFT_SNAPSHOT_PART_BYTES;
                let to = (from + limits::RAFT_SNAPSHOT_PART_BYTES).min(state.len());
                SnapshotPart { head: None, state: state.as_bytes()[from..to].to_vec() }
            }),
        ));
        let limit = Duration::from_millis(limits::RAFT_SNAPSHOT_MS);
        let sent = tokio::time::timeout(limit, client.install_snapshot(parts));
        let network = |e: &(dyn std::error::Error + 'static)| NetworkError::<Types>::from_string(e.to_string());
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            answer = sent => match answer {
                Err(elapsed) => Err(StreamingError::Network(network(&elapsed))),
                Ok(Err(status)) => Err(StreamingError::from(failed(&status))),
                Ok(Ok(response)) => serde_json::from_slice(&response.into_inner().body)
                    .map_err(|e| StreamingError::Network(network(&e))),
            },
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> RpcResult<TransferLeaderResponse<Types>> {
        self.call(
            RPCTypes::TransferLeader,
            &rpc,
            |_| option.soft_ttl(),
            |mut client, request| Box::pin(async move { client.transfer_leader(request).await }),
        )
        .await
    }
}
