//! Every call times every kind of caller.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use qanat_coordinator_core::Command;
use qanat_coordinator_core::access::AccessTokenFacts;
use qanat_coordinator_core::audit::Caller;
use qanat_proto::access::{AccessToken, Role};
use qanat_proto::limits::PRINCIPAL_REQUESTS;
use qanat_storage::env::Env;
use qanat_storage::env::sim::SimEnv;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};
use tower_layer::Layer;

use crate::caller;
use crate::raft::Member;
use crate::service::guard::{Guard, GuardLayer, Guarded, Security};
use crate::service::roles::tests::all_calls;

/// Stands for all services: whatever reaches it has passed.
#[derive(Clone, Default)]
struct Reached(Arc<Mutex<Vec<Option<Caller>>>>);

impl Service<Request<Body>> for Reached {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        let calls = self.0.clone();
        Box::pin(async move {
            calls.lock().expect("whole").push(caller::current());
            Ok(Response::new(Body::empty()))
        })
    }
}

struct World {
    sim: SimEnv,
    member: Arc<Member>,
    guard: Arc<Guard>,
    services: Guarded<Reached>,
    reached: Reached,
    admin: AccessToken,
}

fn token(id: u8) -> AccessToken {
    AccessToken::new(u64::from(id), [id; 32])
}

impl World {
    fn new(is_secured: bool) -> Self {
        let sim = Env::sim(1);
        let member = Arc::new(Member::alone(&sim.env, PathBuf::from("/commands")).expect("leads"));
        let admin = token(99);
        let security = Security { cluster: "c".into(), admin: (admin.id(), admin.digest()) };
        let guard = Guard::new(member.clone(), sim.env.clock.clone(), is_secured.then_some(security));
        let reached = Reached::default();
        let services = GuardLayer(guard.clone()).layer(reached.clone());
        Self { sim, member, guard, services, reached, admin }
    }

    fn create(&self, id: u8, name: &str, role: Role, expires_ms: Option<i64>) -> AccessToken {
        let token = token(id);
        let facts = AccessTokenFacts { name: name.to_owned(), role, digest: token.digest(), expires_ms };
        self.propose(Command::CreateToken { id: token.id(), facts });
        token
    }

    fn propose(&self, command: Command) {
        self.member.propose(&command).expect("decided").expect("applied");
    }

    /// The code of the refusal; empty if the call reached its service.
    fn call(&mut self, path: &str, authorization: Option<&str>) -> String {
        let mut request = Request::builder().uri(format!("http://host{path}"));
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let before = self.reached.0.lock().expect("whole").len();
        let answer = self.services.call(request.body(Body::empty()).expect("a request"));
        let answer = self.member.runtime().block_on(answer).expect("never fails");
        let has_reached = self.reached.0.lock().expect("whole").len() > before;
        let status = answer.headers().get("grpc-status").map(|status| status.to_str().expect("text").to_owned());
        let code = answer.headers().get("qanat-code").map(|code| code.to_str().expect("text").to_owned());
        assert_eq!(has_reached, status.is_none(), "{path}");
        code.or(status).unwrap_or_default()
    }

    fn last_caller(&self) -> Option<Caller> {
        self.reached.0.lock().expect("whole").last().cloned().flatten()
    }
}

fn bearer(token: &AccessToken) -> String {
    format!("Bearer {}", token.reveal())
}

/// What each role may call beside what the one before it may.
fn allowed() -> [(Role, &'static [&'static str]); 4] {
    [
        (
            Role::Viewer,
            &[
                "Jobs/List",
                "Jobs/Describe",
                "Jobs/Watch",
                "Jobs/Savepoints",
                "Cluster/Status",
                "Cluster/Overview",
                "Data/ListTopics",
                "Data/DescribeTopic",
                "Data/Tail",
                "Data/SideRows",
                "Data/Checkpoints",
                "Data/DescribeCheckpoint",
                "Data/Audit",
            ],
        ),
        (Role::Submitter, &["Jobs/Submit", "Jobs/Validate", "Jobs/Explain"]),
        (
            Role::Operator,
            &[
                "Jobs/Stop",
                "Jobs/Resume",
                "Jobs/Rescale",
                "Jobs/Savepoint",
                "Jobs/DropSavepoint",
                "Jobs/Rollback",
                "Jobs/Drop",
                "Cluster/Drain",
                "Data/CreateTopic",
                "Data/DeleteTopic",
                "Data/Readmit",
            ],
        ),
        (
            Role::Admin,
            &[
                "Cluster/CreateToken",
                "Cluster/ListTokens",
                "Cluster/RevokeToken",
                "Cluster/AuditLog",
                "Cluster/AddCoordinator",
                "Cluster/RemoveCoordinator",
            ],
        ),
    ]
}

#[test]
fn every_call_is_for_its_roles_and_for_nobody_else() {
    let mut world = World::new(true);
    let soon = world.sim.env.clock.now_ms() + 1_000;
    world.create(5, "late", Role::Admin, Some(soon));
    world.create(6, "gone", Role::Admin, None);
    world.propose(Command::RevokeToken { id: token(6).id() });
    let roles: BTreeMap<Role, AccessToken> =
        Role::ALL.into_iter().zip(1..).map(|(role, id)| (role, world.create(id, role.as_str(), role, None))).collect();
    world.sim.clock.advance(Duration::from_millis(1_000));
    let mut wrong = token(1);
    wrong = AccessToken::parse(&wrong.reveal().replace("_01", "_02")).expect("a token");
    let first_admin = bearer(&world.admin);
    let mut unlisted: BTreeSet<String> = all_calls().into_iter().collect();
    for path in all_calls() {
        let is_node_call = ["raft", "cluster", "exchange"].iter().any(|p| path.starts_with(&format!("/qanat.{p}.v1.")));
        if is_node_call {
            for authorization in [None, Some(first_admin.as_str())] {
                assert_eq!(world.call(&path, authorization), "E0608", "{path}");
            }
            unlisted.remove(&path);
            continue;
        }
        for (case, authorization, code) in [
            ("no token", None, "E0605"),
            ("another scheme", Some("Basic cWFuYXQ=".to_owned()), "E0605"),
            ("no token of ours", Some("Bearer hunter2".to_owned()), "E0605"),
            ("a wrong secret", Some(bearer(&wrong)), "E0605"),
            ("an unknown token", Some(bearer(&token(77))), "E0605"),
            ("a revoked token", Some(bearer(&token(6))), "E0605"),
            ("a token past its time", Some(bearer(&token(5))), "E0606"),
            ("the first administrator", Some(first_admin.clone()), ""),
        ] {
            assert_eq!(world.call(&path, authorization.as_deref()), code, "{path}: {case}");
        }
        let mut is_allowed = false;
        for (role, calls) in allowed() {
            let is_new = calls.iter().any(|call| path == format!("/qanat.control.v1.{call}"));
            if is_new {
                unlisted.remove(&path);
            }
            is_allowed |= is_new;
            let code = if is_allowed { "" } else { "E0607" };
            assert_eq!(world.call(&path, Some(&bearer(&roles[&role]))), code, "{path}: {role}");
        }
    }
    assert!(unlisted.is_empty(), "say who may call {unlisted:?}");
    for path in ["/qanat.control.v1.Jobs/Erase", "/other.Service/Call", "/"] {
        assert_eq!(world.call(path, Some(&first_admin)), "12", "{path}");
    }
    assert_eq!(world.call("/grpc.health.v1.Health/Check", None), "");
    assert_eq!(world.call("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", None), "E0605");
    // Of each change: six cases without a good token, and one past its time.
    let refused = world.guard.refused();
    assert_eq!(refused.keys().copied().collect::<Vec<_>>(), ["E0605", "E0606", "E0607"]);
    let of_jobs = ["Submit", "Stop", "Resume", "Rescale", "Savepoint", "DropSavepoint", "Rollback", "Drop"];
    let of_cluster = ["Drain", "AddCoordinator", "RemoveCoordinator", "CreateToken", "RevokeToken"];
    let of_data = ["CreateTopic", "DeleteTopic", "Readmit"];
    let changes = (of_jobs.len() + of_cluster.len() + of_data.len()) as u64;
    assert_eq!((refused["E0605"], refused["E0606"]), (6 * changes, changes));
}

#[test]
fn handlers_know_their_caller_and_a_revoked_administrator_is_nobody() {
    let mut world = World::new(true);
    let ann = world.create(1, "ann", Role::Operator, None);
    assert_eq!(world.call("/qanat.control.v1.Jobs/Stop", Some(&bearer(&ann))), "");
    let seen = world.last_caller().expect("a caller");
    assert_eq!((seen.who.as_str(), seen.what.as_str()), ("ann", "Jobs.Stop"));
    let first = bearer(&world.admin);
    assert_eq!(world.call("/qanat.control.v1.Cluster/AuditLog", Some(&first)), "");
    world.propose(Command::RevokeToken { id: world.admin.id() });
    assert_eq!(world.call("/qanat.control.v1.Cluster/AuditLog", Some(&first)), "E0605");
}

/// A coordinator whose clock is an hour off finds tokens an hour older or younger than they are, and says so. How often
/// somebody may call goes by the other clock.
#[test]
fn a_clock_an_hour_off_moves_the_end_of_tokens_and_nothing_else() {
    const HOUR_MS: i64 = 3_600_000;
    let mut world = World::new(true);
    let now_ms = world.sim.env.clock.now_ms();
    let for_good = bearer(&world.create(1, "ann", Role::Viewer, None));
    let half_an_hour = bearer(&world.create(2, "bob", Role::Viewer, Some(now_ms + HOUR_MS / 2)));
    let path = "/qanat.control.v1.Jobs/List";
    for (off_ms, code) in [(0, ""), (HOUR_MS, "E0606"), (-HOUR_MS, ""), (0, "")] {
        world.sim.clock.jump_wall(now_ms + off_ms);
        assert_eq!(world.call(path, Some(&half_an_hour)), code, "{off_ms}");
        assert_eq!(world.call(path, Some(&for_good)), "", "{off_ms}");
    }
    while world.call(path, Some(&for_good)).is_empty() {}
    for off_ms in [HOUR_MS, -HOUR_MS] {
        world.sim.clock.jump_wall(now_ms + off_ms);
        assert_eq!(world.call(path, Some(&for_good)), "E0609", "{off_ms}");
    }
}

#[test]
fn without_security_everybody_is_local_and_is_bounded_too() {
    let mut world = World::new(false);
    assert_eq!(world.call("/qanat.control.v1.Jobs/Submit", None), "");
    assert_eq!(world.last_caller().expect("a caller").who, "local");
    // Coordinators and executors are no clients.
    assert_eq!(world.call("/qanat.raft.v1.Raft/Vote", None), "");
    assert_eq!(world.last_caller(), None);
    let (_, burst) = PRINCIPAL_REQUESTS;
    for _ in 1..burst {
        assert_eq!(world.call("/qanat.control.v1.Jobs/List", None), "");
    }
    assert_eq!(world.call("/qanat.control.v1.Jobs/List", None), "E0609");
    assert_eq!(world.call("/qanat.raft.v1.Raft/Vote", None), "");
    world.sim.clock.advance(Duration::from_secs(1));
    assert_eq!(world.call("/qanat.control.v1.Jobs/List", None), "");
}
