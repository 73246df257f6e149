//! One coordinator of a cluster.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::unbounded;
use qanat_connectors::Registry;
use qanat_connectors::contract::Context;
use qanat_coordinator::nodes::Nodes;
use qanat_coordinator::owner::Owners;
use qanat_coordinator::raft::{Member, MemberConfig};
use qanat_coordinator::service::{
    ClusterService, DataService, Guard, GuardLayer, JobsService, NodesService, RaftService,
};
use qanat_coordinator::{Coordinator, CoordinatorConfig, Executors};
use qanat_proto::exposition::Page;
use qanat_proto::rpc::control::cluster_server::ClusterServer;
use qanat_proto::rpc::control::data_server::DataServer;
use qanat_proto::rpc::control::jobs_server::JobsServer;
use qanat_proto::rpc::edge;
use qanat_proto::rpc::tls::Peers;
use qanat_proto::{Error, Result, rpc};
use qanat_storage::env::{Env, File};
use qanat_storage::log::GroupCommit;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::server::Router;
use tower_layer::{Identity, Stack};

use crate::cluster::ending::{end_in_error, until_poisoned};
use crate::cluster::planner::ScriptPlanner;
use crate::cluster::reader::ClusterReader;
use crate::cluster::roots::Roots;
use crate::cluster::storage::{Storage, bind};
use crate::cluster::{NodeSecurity, World, asked_to_end, bind_port, dial, listen, lock, runtime};
use crate::data_folder::DataView;
use crate::file_limit;
use crate::observe::MetricsArguments;
use crate::output::{self, Format};

/// How long a leader that is asked to end waits for another one to lead in its place: as long as it would take the
/// others to miss it and elect one, which they do if the one that was chosen does not come.
const HAND_OVER: Duration = Duration::from_millis(800);

/// What a coordinator is started with.
pub(crate) struct CoordinatorOptions {
    pub(crate) cluster: String,
    pub(crate) id: u64,
    pub(crate) listen: String,
    pub(crate) members: BTreeMap<u64, String>,
    /// Make the group: once in its life, on one of its members.
    pub(crate) founds: bool,
    pub(crate) data: PathBuf,
    pub(crate) storage: PathBuf,
    /// None: everywhere, and relative paths go from the root. For a simulated cluster, which reaches no disk.
    pub(crate) files_roots: Option<Vec<PathBuf>>,
    /// None: on loopback, without certificates and tokens.
    pub(crate) security: Option<NodeSecurity>,
    pub(crate) metrics: MetricsArguments,
    /// How an error is printed that ends it.
    pub(crate) format: Format,
}

/// Serves until it is asked to end.
///
/// # Errors
/// What keeps it from starting. Later ones end the process here: E0305 if its disk fails, E0610 if its group removes
/// it.
pub(crate) fn run_coordinator(options: CoordinatorOptions) -> Result<()> {
    file_limit::outlive()?;
    let env = Env::real();
    let runtime = runtime()?;
    let security = options.security.as_ref();
    if let Some(security) = security
        && let Some(address) = security.coordinators().get(&options.id)
    {
        security.check_address(address)?;
    }
    let listener = listen(&runtime, &options.listen, security)?;
    let metrics = options.metrics.bind(bind_port)?;
    let world = World { env: env.clone(), runtime: runtime.handle().clone(), dial: dial(security) };
    let process = CoordinatorProcess::start(&world, &options)?;
    if let Some(metrics) = metrics {
        let shown = process.shown();
        output::print_line(&metrics.serve(&env, shown)?);
    }
    let router = runtime.block_on(process.router(&world, &options))?;
    if options.founds {
        process.member.found(options.members)?;
    }
    let address = listener.local_addr().map_err(|e| Error::io("listen", &e))?;
    output::print_line(&format!("coordinator {} serves at {address}", options.id));
    let ended = runtime.block_on(async {
        tokio::select! {
            served = router.serve_with_incoming(TcpListenerStream::new(listener)) => {
                served.map_err(|e| Error::internal(format!("serve: {e}")))
            }
            // Connections are not waited for: executors keep theirs for ever, and what was answered is on the disk.
            () = may_end(&process.member, &process.nodes) => Ok(()),
            ended = process.until_ended() => Err(ended),
        }
    });
    match ended {
        Ok(()) => std::process::exit(0),
        Err(error) => end_in_error(&error, options.format),
    }
}

/// What a coordinator serves, with the guard in front of it.
pub(crate) type CoordinatorRouter = Router<Stack<GuardLayer, Identity>>;

/// A coordinator without its door to the network, and without the signals that end it.
pub(crate) struct CoordinatorProcess {
    pub(crate) member: Arc<Member>,
    nodes: Arc<Nodes>,
    coordinator: Arc<Coordinator>,
    storage: Storage,
    roots: Roots,
    /// Nobody else has its folder.
    _lock: Arc<dyn File>,
}

impl CoordinatorProcess {
    /// Opens its folders and takes part in its group. From a thread, not a task.
    ///
    /// # Errors
    /// What keeps it from starting.
    pub(crate) fn start(world: &World, options: &CoordinatorOptions) -> Result<Self> {
        let env = &world.env;
        let _lock = lock(env, &options.data)?;
        bind(env, &options.data, &options.cluster)?;
        let storage = Storage::open(env, &options.storage, &options.cluster)?;
        let roots = match &options.files_roots {
            Some(roots) => Roots::new(env, roots)?,
            None => Roots::everywhere(env),
        };
        let member = Arc::new(Member::start(MemberConfig {
            env: env.clone(),
            runtime: world.runtime.clone(),
            folder: options.data.join("commands"),
            commit: GroupCommit::spawn()?,
            id: options.id,
            cluster: options.cluster.as_str().into(),
            dial: world.dial.clone(),
        })?);
        let (events, heard) = unbounded();
        let (reports, inbox) = unbounded();
        let nodes = Nodes::new(env.clock.clone(), events, reports);
        let coordinator = Arc::new(Coordinator::start(CoordinatorConfig {
            env: env.clone(),
            member: member.clone(),
            checkpoints: storage.checkpoints.clone(),
            executors: Executors::Attached { nodes: nodes.clone(), events: heard },
            inbox,
        })?);
        Ok(Self { member, nodes, coordinator, storage, roots, _lock })
    }

    /// Its page of metrics.
    fn shown(&self) -> impl Fn(&mut Page) + Send + Sync + 'static {
        let (counted, member, nodes) = (self.coordinator.metrics().clone(), self.member.clone(), self.nodes.clone());
        move |page| counted.show(page, &member, Some(&nodes))
    }

    /// All that it serves.
    ///
    /// # Errors
    /// E0608 for credentials that do not fit each other.
    pub(crate) async fn router(&self, world: &World, options: &CoordinatorOptions) -> Result<CoordinatorRouter> {
        let Self { member, nodes, coordinator, storage, roots, .. } = self;
        let (env, security) = (&world.env, options.security.as_ref());
        let cluster: Arc<str> = options.cluster.as_str().into();
        let context = Context { env: env.clone(), topics: storage.topics.clone(), base: PathBuf::from("/") };
        let planner = ScriptPlanner {
            opener: Arc::new(Registry::new(context)),
            roots: roots.clone(),
            env: env.clone(),
            checkpoints: storage.checkpoints.clone(),
        };
        let (health, healthy) = tonic_health::server::health_reporter();
        health.set_serving::<JobsServer<JobsService>>().await;
        health.set_serving::<ClusterServer<ClusterService>>().await;
        health.set_serving::<DataServer<DataService>>().await;
        let reflection =
            || tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(rpc::DESCRIPTORS);
        let failed = |e: tonic_reflection::server::Error| Error::internal(format!("reflection: {e}"));
        // Clients ask for either version.
        let (reflection, older) =
            (reflection().build_v1().map_err(failed)?, reflection().build_v1alpha().map_err(failed)?);
        let clock = env.clock.clone();
        let guard = Guard::new(member.clone(), clock.clone(), security.map(NodeSecurity::for_services));
        let applied = {
            let member = member.clone();
            move || member.raft_status().applied.map_or(0, |applied| applied + 1)
        };
        let view = DataView::of_cluster(env, &options.storage, &options.data.join("commands"), applied);
        let reader = ClusterReader { view, checkpoints: storage.checkpoints.clone(), roots: roots.clone() };
        let dial = || world.dial.clone();
        let owners = Owners::new(member.clone(), nodes.clone(), dial(), cluster.clone());
        let data =
            DataService::server(member.clone(), nodes.clone(), Arc::new(reader), dial(), cluster.clone(), owners);
        let jobs =
            JobsService::server(env.clone(), member.clone(), nodes.clone(), coordinator.clone(), Arc::new(planner));
        let counted = coordinator.metrics().clone();
        let server = edge::server(security.map(NodeSecurity::credentials), Peers::NodesAndClients)?;
        Ok(server
            .layer(GuardLayer(guard.clone()))
            .add_service(healthy)
            .add_service(reflection)
            .add_service(older)
            .add_service(RaftService::server(member.clone(), cluster.clone()))
            .add_service(NodesService::server(nodes.clone(), member.clone(), cluster.clone()))
            .add_service(jobs)
            .add_service(data)
            .add_service(ClusterService::server(member.clone(), nodes.clone(), cluster, guard, counted, clock)))
    }

    /// Returns once this process cannot go on, with the reason.
    pub(crate) async fn until_ended(&self) -> Error {
        tokio::select! {
            removed = self.member.until_removed() => removed,
            broken = self.member.until_broken() => broken,
            poisoned = until_poisoned(&self.storage.checkpoints) => poisoned,
        }
    }
}

/// Returns once this process may end as it was asked to. One that leads hands over first, so that jobs go on under
/// another leader at once; if nobody takes over, this one is missed like one that died.
async fn may_end(member: &Member, nodes: &Nodes) {
    asked_to_end().await;
    if member.hand_over(HAND_OVER).await {
        tracing::info!("ends, and another coordinator leads");
        // Executors are told who that is, and go there.
        let _ = tokio::time::timeout(HAND_OVER, nodes.until_left()).await;
    }
}
