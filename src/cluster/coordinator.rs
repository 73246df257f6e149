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
use qanat_proto::rpc::control::cluster_server::ClusterServer;
use qanat_proto::rpc::control::data_server::DataServer;
use qanat_proto::rpc::control::jobs_server::JobsServer;
use qanat_proto::rpc::edge;
use qanat_proto::rpc::tls::Peers;
use qanat_proto::{Error, Result, rpc};
use qanat_storage::env::Env;
use qanat_storage::log::GroupCommit;
use tokio_stream::wrappers::TcpListenerStream;

use crate::cluster::ending::end_in_error;
use crate::cluster::planner::ScriptPlanner;
use crate::cluster::reader::ClusterReader;
use crate::cluster::roots::Roots;
use crate::cluster::storage::{Storage, bind};
use crate::cluster::{NodeSecurity, asked_to_end, bind_port, dial, listen, lock, runtime};
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
    pub(crate) files_roots: Vec<PathBuf>,
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
    let metrics = options.metrics.bind(|address| bind_port(&runtime, address))?;
    let _lock = lock(&runtime, &env, &options.data)?;
    bind(&env, &options.data, &options.cluster)?;
    let storage = Storage::open(&env, &options.storage, &options.cluster)?;
    let roots = Roots::new(&options.files_roots)?;
    let cluster: Arc<str> = options.cluster.as_str().into();
    let member = Arc::new(Member::start(MemberConfig {
        env: env.clone(),
        runtime: runtime.clone(),
        folder: options.data.join("commands"),
        commit: GroupCommit::spawn()?,
        id: options.id,
        cluster: cluster.clone(),
        dial: dial(security),
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
    let counted = coordinator.metrics().clone();
    if let Some(metrics) = metrics {
        let (counted, member, nodes) = (counted.clone(), member.clone(), nodes.clone());
        output::print_line(&metrics.serve(&env, move |page| counted.show(page, &member, Some(&nodes)))?);
    }
    let context = Context { env: env.clone(), topics: storage.topics.clone(), base: PathBuf::from("/") };
    let planner = ScriptPlanner {
        opener: Arc::new(Registry::new(context)),
        roots: roots.clone(),
        env: env.clone(),
        checkpoints: storage.checkpoints.clone(),
    };
    let (health, healthy) = tonic_health::server::health_reporter();
    runtime.block_on(async {
        health.set_serving::<JobsServer<JobsService>>().await;
        health.set_serving::<ClusterServer<ClusterService>>().await;
        health.set_serving::<DataServer<DataService>>().await;
    });
    let reflection =
        || tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(rpc::DESCRIPTORS);
    let failed = |e: tonic_reflection::server::Error| Error::internal(format!("reflection: {e}"));
    // Clients ask for either version.
    let (reflection, older) = (reflection().build_v1().map_err(failed)?, reflection().build_v1alpha().map_err(failed)?);
    let guard = Guard::new(member.clone(), env.clock.clone(), security.map(NodeSecurity::for_services));
    let clock = env.clock.clone();
    let applied = {
        let member = member.clone();
        move || member.raft_status().applied.unwrap_or(0)
    };
    let view = DataView::of_cluster(&env, &options.storage, &options.data.join("commands"), applied);
    let reader = ClusterReader { view, checkpoints: storage.checkpoints.clone(), roots };
    let owners = Owners::new(member.clone(), nodes.clone(), dial(security), cluster.clone());
    let (reader, to_taps) = (Arc::new(reader), dial(security));
    let data = DataService::server(member.clone(), nodes.clone(), reader, to_taps, cluster.clone(), owners);
    let jobs = JobsService::server(env, member.clone(), nodes.clone(), coordinator, Arc::new(planner));
    let server = edge::server(security.map(NodeSecurity::credentials), Peers::NodesAndClients)?
        .layer(GuardLayer(guard.clone()))
        .add_service(healthy)
        .add_service(reflection)
        .add_service(older)
        .add_service(RaftService::server(member.clone(), cluster.clone()))
        .add_service(NodesService::server(nodes.clone(), member.clone(), cluster.clone()))
        .add_service(jobs)
        .add_service(data)
        .add_service(ClusterService::server(member.clone(), nodes.clone(), cluster, guard, counted, clock));
    if options.founds {
        member.found(options.members)?;
    }
    let address = listener.local_addr().map_err(|e| Error::io("listen", &e))?;
    output::print_line(&format!("coordinator {} serves at {address}", options.id));
    let ended = runtime.block_on(async {
        tokio::select! {
            served = server.serve_with_incoming(TcpListenerStream::new(listener)) => {
                served.map_err(|e| Error::internal(format!("serve: {e}")))
            }
            // Connections are not waited for: executors keep theirs for ever, and what was answered is on the disk.
            () = may_end(&member, &nodes) => Ok(()),
            removed = member.until_removed() => Err(removed),
            broken = member.until_broken() => Err(broken),
        }
    });
    match ended {
        Ok(()) => std::process::exit(0),
        Err(error) => end_in_error(&error, options.format),
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
