//! The other members' messages, handed to openraft.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest};
use qanat_proto::rpc::identity::NodeIdentity;
use qanat_proto::rpc::raft::raft_server::{Raft as RaftRpc, RaftServer};
use qanat_proto::rpc::raft::{RaftMessage, SnapshotPart};
use qanat_proto::rpc::status::status_of;
use qanat_proto::{Code, Error, limits};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::{Request, Response, Status, Streaming};

use crate::raft::{Member, MemberId, SnapshotHead, Types, Vote, removed};

/// A snapshot on its way to this member: more is refused before it is held.
const SNAPSHOT_BYTES_MAX: usize = 4 << 30;

/// Serves one member.
pub struct RaftService {
    member: Arc<Member>,
    cluster: Arc<str>,
}

type Answer = Result<Response<RaftMessage>, Status>;

impl RaftService {
    pub fn server(member: Arc<Member>, cluster: Arc<str>) -> RaftServer<Self> {
        RaftServer::new(Self { member, cluster })
            .max_decoding_message_size(limits::CONTROL_MESSAGE_BYTES)
            .max_encoding_message_size(limits::CONTROL_MESSAGE_BYTES)
    }

    /// The body of a message that is meant for this member of this group.
    fn open<T: DeserializeOwned>(&self, message: &RaftMessage) -> Result<T, Status> {
        self.admit(message)?;
        serde_json::from_slice(&message.body).map_err(|e| Status::invalid_argument(format!("not a Raft message: {e}")))
    }

    fn admit(&self, message: &RaftMessage) -> Result<(), Status> {
        if message.cluster != *self.cluster {
            return Err(Status::permission_denied("this coordinator belongs to another cluster"));
        }
        if message.to != self.member.id() {
            return Err(Status::permission_denied(format!(
                "this is coordinator {}, not {}",
                self.member.id(),
                message.to
            )));
        }
        Ok(())
    }

    /// Nobody votes or leads in another's name.
    fn own_name(extensions: &tonic::Extensions, vote: &Vote) -> Result<(), Status> {
        let Some(identity) = extensions.get::<NodeIdentity>() else { return Ok(()) };
        let claimed = vote.leader_id.voted_for;
        if identity.node.as_str() == claimed.to_string() {
            return Ok(());
        }
        let message = format!("coordinator {} speaks for coordinator {claimed}", identity.node);
        Err(status_of(&Error::new(Code::CertificateRefused, message)))
    }

    /// One that the group has removed asks in vain, and for ever if nobody says so.
    async fn refuse_removed(&self, vote: &Vote) -> Result<(), Status> {
        let id = vote.leader_id.voted_for;
        if self.member.has_removed(id).await { Err(status_of(&removed(id))) } else { Ok(()) }
    }

    fn reply<T: Serialize, E: std::fmt::Display>(&self, result: Result<T, E>) -> Answer {
        let body = result.map_err(|e| Status::internal(e.to_string()))?;
        let body = serde_json::to_vec(&body).map_err(|e| Status::internal(e.to_string()))?;
        Ok(Response::new(RaftMessage { cluster: self.cluster.to_string(), to: 0, body }))
    }
}

#[tonic::async_trait]
impl RaftRpc for RaftService {
    async fn append_entries(&self, request: Request<RaftMessage>) -> Answer {
        let rpc: AppendEntriesRequest<Types> = self.open(request.get_ref())?;
        Self::own_name(request.extensions(), &rpc.vote)?;
        self.reply(self.member.raft().append_entries(rpc).await)
    }

    async fn vote(&self, request: Request<RaftMessage>) -> Answer {
        let rpc: VoteRequest<Types> = self.open(request.get_ref())?;
        Self::own_name(request.extensions(), &rpc.vote)?;
        self.refuse_removed(&rpc.vote).await?;
        self.reply(self.member.raft().vote(rpc).await)
    }

    async fn pre_vote(&self, request: Request<RaftMessage>) -> Answer {
        let rpc: VoteRequest<Types> = self.open(request.get_ref())?;
        Self::own_name(request.extensions(), &rpc.vote)?;
        self.refuse_removed(&rpc.vote).await?;
        self.reply(self.member.raft().pre_vote(rpc).await)
    }

    async fn install_snapshot(&self, request: Request<Streaming<SnapshotPart>>) -> Answer {
        let identity = request.extensions().clone();
        let mut parts = request.into_inner();
        let missing = || Status::invalid_argument("a snapshot begins with its head");
        let first = parts.message().await?.and_then(|part| part.head).ok_or_else(missing)?;
        let head: SnapshotHead = self.open(&first)?;
        Self::own_name(&identity, &head.vote)?;
        let mut state = Vec::new();
        while let Some(part) = parts.message().await? {
            if state.len() + part.state.len() > SNAPSHOT_BYTES_MAX {
                return Err(Status::resource_exhausted("the snapshot is larger than a coordinator takes"));
            }
            state.extend_from_slice(&part.state);
        }
        let state = String::from_utf8(state).map_err(|_| Status::invalid_argument("a snapshot is text"))?;
        let snapshot = openraft::Snapshot { meta: head.meta, snapshot: state.into() };
        self.reply(self.member.raft().install_full_snapshot(head.vote, snapshot).await)
    }

    type FollowStream = BoxStream<'static, Result<RaftMessage, Status>>;

    async fn follow(&self, request: Request<RaftMessage>) -> Result<Response<Self::FollowStream>, Status> {
        // Members of before say nothing of themselves.
        let from: Option<MemberId> = self.open(request.get_ref())?;
        let member = Arc::downgrade(&self.member);
        let told = async move {
            let Some(id) = from else { return std::future::pending().await };
            Member::until_it_removes(member, id).await;
            Err(status_of(&removed(id)))
        };
        Ok(Response::new(futures::stream::once(told).boxed()))
    }

    async fn transfer_leader(&self, request: Request<RaftMessage>) -> Answer {
        let rpc: TransferLeaderRequest<Types> = self.open(request.get_ref())?;
        Self::own_name(request.extensions(), rpc.from_leader())?;
        self.reply(self.member.raft().handle_transfer_leader(rpc).await)
    }
}
