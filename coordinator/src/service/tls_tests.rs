//! A coordinator behind TLS on loopback, and everybody who should not get in.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::unbounded;
use futures::StreamExt;
use openraft::raft::VoteRequest;
use qanat_proto::access::AccessToken;
use qanat_proto::rpc::cluster::nodes_client::NodesClient;
use qanat_proto::rpc::cluster::{CoordinatorEvent, ExecutorEvent, Register, executor_event};
use qanat_proto::rpc::control::cluster_client::ClusterClient;
use qanat_proto::rpc::control::{
    AuditLogRequest, CreateTokenRequest, DrainRequest, ListTokensRequest, RevokeTokenRequest, StatusRequest,
};
use qanat_proto::rpc::dial::{Dial, TcpDial, TlsDial};
use qanat_proto::rpc::edge;
use qanat_proto::rpc::identity::{NodeIdentity, NodeRole};
use qanat_proto::rpc::raft::RaftMessage;
use qanat_proto::rpc::raft::raft_client::RaftClient;
use qanat_proto::rpc::status::error_of;
use qanat_proto::rpc::tls::{Credentials, Peers};
use qanat_proto::{Code, limits};
use qanat_storage::env::Env;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::nodes::Nodes;
use crate::raft::{Member, Types, Vote};
use crate::service::{ClusterService, Guard, GuardLayer, NodesService, RaftService, Security};

const CLUSTER: &str = "orchard";
/// Long for a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
/// How often a caller asks why its connection was closed.
const TRIES: usize = 100;

/// Signs what a test asks for.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: Vec<u8>,
}

impl Authority {
    fn new() -> Self {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, "a test");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        let pem = parameters.self_signed(&key).expect("signed").pem().into_bytes();
        Self { issuer: Issuer::new(parameters, key), pem }
    }

    /// Certificate and key for whoever is at loopback.
    fn sign(&self, cluster: &str, role: &str, node: &str, year: i32) -> (Vec<u8>, Vec<u8>) {
        let mut parameters = CertificateParams::default();
        let identity = format!("qanat://{cluster}/{role}/{node}");
        parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
        parameters.subject_alt_names = vec![
            SanType::IpAddress([127, 0, 0, 1].into()),
            SanType::URI(identity.as_str().try_into().expect("plain text")),
        ];
        let key = KeyPair::generate().expect("a key");
        let signed = parameters.signed_by(&key, &self.issuer).expect("signed");
        (signed.pem().into_bytes(), key.serialize_pem().into_bytes())
    }

    /// Shows a certificate of this authority, and believes it.
    fn credentials(&self, cluster: &str, role: &str, node: &str) -> Credentials {
        let (certificate, key) = self.sign(cluster, role, node, 4_000);
        Credentials::new(self.pem.clone(), certificate, key).expect("an identity")
    }
}

struct World {
    runtime: Arc<Runtime>,
    authority: Authority,
    address: String,
    admin: AccessToken,
    /// Dropped last, and not by the runtime of the server.
    _member: Arc<Member>,
}

impl World {
    fn new() -> Self {
        let sim = Env::sim(1);
        let member = Arc::new(Member::alone(&sim.env, PathBuf::from("/commands")).expect("leads"));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runs");
        let runtime = Arc::new(runtime);
        let authority = Authority::new();
        let admin = AccessToken::new(9, [9; 32]);
        let security = Security { cluster: CLUSTER.into(), admin: (admin.id(), admin.digest()) };
        let guard = Guard::new(member.clone(), sim.env.clock.clone(), Some(security));
        let (events, _) = unbounded();
        let (inbox, _) = unbounded();
        let nodes = Nodes::new(sim.env.clock.clone(), events, inbox);
        nodes.lead([]);
        let credentials = authority.credentials(CLUSTER, "coordinator", "1");
        let inside = runtime.enter();
        let server = edge::server(Some(&credentials), Peers::NodesAndClients)
            .expect("credentials that fit")
            .layer(GuardLayer(guard.clone()))
            .add_service(RaftService::server(member.clone(), CLUSTER.into()))
            .add_service(NodesService::server(nodes.clone(), member.clone(), CLUSTER.into()))
            .add_service(ClusterService::server(
                member.clone(),
                nodes,
                CLUSTER.into(),
                guard,
                Arc::default(),
                sim.env.clock.clone(),
            ));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        runtime.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        drop(inside);
        Self { runtime, authority, address, admin, _member: member }
    }

    fn channel(&self, dial: &dyn Dial) -> Channel {
        let _inside = self.runtime.enter();
        dial.dial(&self.address).expect("an address")
    }

    fn client(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel(&TlsDial::of_client(&self.authority.pem)))
    }

    fn wait<T>(&self, call: impl Future<Output = Result<T, Status>>) -> Result<T, Code> {
        let answer = self.runtime.block_on(async { tokio::time::timeout(LIMIT, call).await });
        answer.expect("in time").map_err(|status| error_of(&status).code())
    }

    fn with<R>(&self, token: &AccessToken, message: R) -> Request<R> {
        let mut request = Request::new(message);
        let value = format!("Bearer {}", token.reveal()).parse().expect("plain text");
        request.metadata_mut().insert("authorization", value);
        request
    }

    /// Tries to attach an executor, with the credentials of somebody.
    fn attach(&self, credentials: &Credentials, name: &str) -> Result<tonic::Streaming<CoordinatorEvent>, Code> {
        let register = Register {
            cluster: CLUSTER.into(),
            node: name.into(),
            start: "0000000000000001".into(),
            slots: 1,
            data_address: "127.0.0.1:1".into(),
            holds: b"[]".to_vec(),
            folder: String::new(),
            incarnation: 0,
        };
        let first = ExecutorEvent { event: Some(executor_event::Event::Register(register)) };
        let events = futures::stream::iter([first]).chain(futures::stream::pending());
        let mut client = NodesClient::new(self.channel(&TlsDial::of_node(credentials)));
        self.wait(async move { client.attach(events).await }).map(tonic::Response::into_inner)
    }

    /// Asks for a vote as `candidate`.
    fn vote(&self, credentials: &Credentials, candidate: u64) -> Result<(), Code> {
        let rpc = VoteRequest::<Types> { vote: Vote::new(1, candidate), last_log_id: None, leadership_transfer: false };
        let body = serde_json::to_vec(&rpc).expect("encodes");
        let message = RaftMessage { cluster: CLUSTER.into(), to: 1, body };
        let mut client = RaftClient::new(self.channel(&TlsDial::of_node(credentials)));
        self.wait(async move { client.vote(message).await }).map(drop)
    }
}

#[test]
fn strangers_are_refused_and_processes_of_the_cluster_are_not() {
    let world = World::new();
    let of = |role: &str, node: &str| world.authority.credentials(CLUSTER, role, node);
    let refused = Err(Code::CertificateRefused);
    // A client that believes another authority, and one that speaks without TLS.
    let other = Authority::new();
    let mut client = ClusterClient::new(world.channel(&TlsDial::of_client(&other.pem)));
    assert_eq!(world.wait(async move { client.status(StatusRequest {}).await }).map(drop), refused);
    let mut client = ClusterClient::new(world.channel(&TcpDial));
    let plain = world.wait(async move { client.status(StatusRequest {}).await }).map(drop);
    assert_eq!(plain, Err(Code::NoQuorum));
    // A process with a certificate of another authority, and one whose time is over.
    for (authority, year) in [(&other, 4_000), (&world.authority, 2_001)] {
        let (certificate, key) = authority.sign(CLUSTER, "executor", "a", year);
        let credentials = Credentials::new(world.authority.pem.clone(), certificate, key).expect("an identity");
        // With TLS 1.3 a certificate is refused when its owner's handshake is over already: the owner may find the
        // connection closed before it has read why, and asks again, as all callers do.
        let mut tries = std::iter::repeat_with(|| world.attach(&credentials, "a").map(drop)).take(TRIES);
        assert_eq!(tries.find(|told| *told != Err(Code::NoQuorum)), Some(refused));
    }
    // Of another cluster; of another role; under another name.
    let foreign = world.authority.credentials("vineyard", "executor", "a");
    assert_eq!(world.attach(&foreign, "a").map(drop), refused);
    assert_eq!(world.attach(&of("coordinator", "a"), "a").map(drop), refused);
    assert_eq!(world.attach(&of("executor", "b"), "a").map(drop), refused);
    assert_eq!(world.vote(&of("executor", "2"), 2), refused);
    assert_eq!(world.vote(&of("coordinator", "2"), 3), refused);
    // A client's token opens no door of processes.
    let mut client = RaftClient::new(world.channel(&TlsDial::of_client(&world.authority.pem)));
    let request = world.with(&world.admin, RaftMessage::default());
    assert_eq!(world.wait(async move { client.vote(request).await }).map(drop), refused);
    // Nor does a certificate that of clients.
    let mut client = ClusterClient::new(world.channel(&TlsDial::of_node(&of("coordinator", "2"))));
    let listed = world.wait(async move { client.list_tokens(ListTokensRequest {}).await }).map(drop);
    assert_eq!(listed, Err(Code::NotAuthenticated));
    world.attach(&of("executor", "a"), "a").expect("it is who it says");
    let told = world.vote(&of("coordinator", "2"), 2);
    assert_eq!(told, Err(Code::MemberRemoved), "it is who it says, and the group is one of one");
}

#[test]
fn tokens_are_made_used_and_revoked_and_all_of_it_is_audited() {
    let world = World::new();
    let (admin, ann) = (world.admin.clone(), AccessToken::new(1, [1; 32]));
    let create = || {
        let request = CreateTokenRequest {
            id: ann.id().to_string(),
            digest: ann.digest().as_bytes().to_vec(),
            name: "ann".into(),
            role: "operator".into(),
            expires_ms: 0,
        };
        let (mut client, request) = (world.client(), world.with(&admin, request));
        world.wait(async move { client.create_token(request).await })
    };
    create().expect("made");
    create().expect("the same again");
    let drain = |node: &str| {
        let request = world.with(&ann, DrainRequest { node: node.into(), undo: false });
        let mut client = world.client();
        world.wait(async move { client.drain(request).await }).map(drop)
    };
    assert_eq!(drain("a"), Err(Code::Usage), "there is none yet");
    let executor = world.authority.credentials(CLUSTER, "executor", "a");
    let attached = world.attach(&executor, "a").expect("attached");
    drain("a").expect("drained");
    let (mut client, request) = (world.client(), world.with(&ann, ListTokensRequest {}));
    let listed = world.wait(async move { client.list_tokens(request).await });
    assert_eq!(listed.map(drop), Err(Code::NotAllowed));
    let revoke = |token: &AccessToken, wanted: &str| {
        let request = world.with(token, RevokeTokenRequest { token: wanted.into() });
        let mut client = world.client();
        world.wait(async move { client.revoke_token(request).await }).map(drop)
    };
    assert_eq!(revoke(&ann, "ann"), Err(Code::NotAllowed));
    assert_eq!(revoke(&admin, "admin"), Err(Code::Usage), "the last administrator");
    revoke(&admin, "ann").expect("revoked");
    assert_eq!(revoke(&admin, "ann"), Err(Code::Usage), "it is gone");
    assert_eq!(drain("a"), Err(Code::NotAuthenticated));
    let (mut client, request) = (world.client(), world.with(&admin, AuditLogRequest { last: 3 }));
    let log = world.wait(async move { client.audit_log(request).await }).expect("told").into_inner();
    let told: Vec<_> =
        log.entries.iter().map(|e| (e.number, e.who.as_str(), e.what.as_str(), e.object.as_str())).collect();
    assert_eq!(
        told,
        [
            (2, "admin", "Cluster.CreateToken", "token ann (operator)"),
            (3, "ann", "Cluster.Drain", "executor a"),
            (4, "admin", "Cluster.RevokeToken", "token ann"),
        ]
    );
    assert!(log.entries.iter().all(|entry| entry.from.starts_with("127.0.0.1:")));
    assert_eq!((log.refused["E0607"], log.refused["E0605"]), (1, 1));
    drop(attached);
}

#[test]
fn a_message_over_the_limit_is_refused() {
    let world = World::new();
    let large = RevokeTokenRequest { token: "x".repeat(limits::CLIENT_MESSAGE_BYTES + 1) };
    let (mut client, request) = (world.client(), world.with(&world.admin, large));
    let refused = world.wait(async move { client.revoke_token(request).await }).map(drop);
    assert_eq!(refused, Err(Code::Usage));
    let (mut client, mut request) = (world.client(), world.with(&world.admin, StatusRequest {}));
    let header = "x".repeat(2 * limits::RPC_HEADER_BYTES as usize).parse().expect("plain text");
    request.metadata_mut().insert("x-large", header);
    assert!(world.wait(async move { client.status(request).await }).is_err());
}

#[test]
fn a_certificate_names_one_node() {
    let authority = Authority::new();
    let credentials = authority.credentials(CLUSTER, "executor", "a");
    let NodeIdentity { cluster, role, node } = credentials.identity();
    assert_eq!((cluster.as_str(), *role, node.as_str()), (CLUSTER, NodeRole::Executor, "a"));
    let ca = Credentials::new(authority.pem.clone(), authority.pem.clone(), Vec::new());
    assert_eq!(ca.err().map(|e| e.code()), Some(Code::CertificateRefused));
}
