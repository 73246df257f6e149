//! One executor of a cluster.

use std::path::PathBuf;
use std::sync::Arc;

use crossbeam::channel::{Receiver, unbounded};
use qanat_connectors::Registry;
use qanat_connectors::contract::Context;
use qanat_connectors::log::commit_owned;
use qanat_executor::attach::{AttachConfig, keep_attached};
use qanat_executor::exchange::{Exchange, PerformTask, RowThreads, Runtimes, serve};
use qanat_executor::node::{Node, NodeConfig};
use qanat_executor::spill::SpillRoot;
use qanat_proto::control::FromExecutor;
use qanat_proto::ids::StartId;
use qanat_proto::{Code, Error, Place, Result};
use qanat_storage::env::{Env, thread};
use qanat_storage::log::Topics;

use crate::cluster::ending::{end_in_error, until_poisoned};
use crate::cluster::node_folder::NodeFolder;
use crate::cluster::owner::TopicOwner;
use crate::cluster::storage::Storage;
use crate::cluster::{NodeSecurity, World, asked_to_end, bind_port, dial, host_of, listen, lock, runtime};
use crate::embedded::side_tables;
use crate::file_limit;
use crate::observe::MetricsArguments;
use crate::output::{self, Format};
use crate::retention::{RETENTION_INTERVAL, Sweeps};

/// What an executor is started with.
pub(crate) struct ExecutorOptions {
    pub(crate) cluster: String,
    pub(crate) node: String,
    pub(crate) slots: u32,
    /// Where its exchange listens.
    pub(crate) listen: String,
    /// What others are told, where that is another address.
    pub(crate) advertise: Option<String>,
    pub(crate) coordinators: Vec<String>,
    pub(crate) storage: PathBuf,
    /// The node's own folder; None: each start is a node that nobody knows.
    pub(crate) data: Option<PathBuf>,
    /// None: on loopback, without certificates.
    pub(crate) security: Option<NodeSecurity>,
    pub(crate) metrics: MetricsArguments,
    /// How an error is printed that ends it.
    pub(crate) format: Format,
}

/// Runs jobs until it is asked to end.
///
/// # Errors
/// What keeps it from starting. Later ones end the process here.
pub(crate) fn run_executor(options: ExecutorOptions) -> Result<()> {
    file_limit::outlive()?;
    let env = Env::real();
    let control = runtime()?;
    let metrics = options.metrics.bind(bind_port)?;
    let processors = std::thread::available_parallelism().map_or(2, usize::from);
    let rows = RowThreads::start(processors)?;
    let security = options.security.as_ref();
    let world = World { env: env.clone(), runtime: control.handle().clone(), dial: dial(security) };
    // The folder first: a second process for it ends before it has taken a port.
    let folders = ExecutorFolders::open(&world, &options)?;
    let listener = listen(&control, &options.listen, security)?;
    let address = listener.local_addr().map_err(|e| Error::io("listen", &e))?;
    if address.ip().is_unspecified() && options.advertise.is_none() {
        return Err(Error::new(Code::Usage, format!("others cannot reach an executor at {address}"))
            .hint("say where they do: --advertise HOST:PORT"));
    }
    let address = address.to_string();
    let data_address = options.advertise.clone().unwrap_or_else(|| address.clone());
    host_of(&data_address).map_err(|error| error.at(Place::Named("--advertise".to_owned())))?;
    if let Some(security) = security {
        security.check_address(&data_address)?;
    }
    output::print_line(&format!("executor {} listens at {address}", options.node));
    let process = ExecutorProcess::start(&world, folders, &options, rows.runtimes(), processors)?;
    let credentials = security.map(|security| security.credentials().clone());
    control.spawn(serve(process.exchange.clone(), listener, credentials, Some(process.perform())));
    if let Some(metrics) = metrics {
        let node = process.node.clone();
        output::print_line(&metrics.serve(&env, move |page| node.show(page))?);
    }
    let name = options.node.clone();
    let told = std::sync::Once::new();
    let format = options.format;
    let on_attached = Box::new(move || {
        told.call_once(|| {
            output::print_line(&format!("executor {name} serves"));
        });
    });
    let ended = control.block_on(async {
        tokio::select! {
            ended = process.run(&world, options, data_address, on_attached) => ended,
            () = asked_to_end() => Ok(()),
        }
    });
    // Tasks end where they are: what is claimed goes on elsewhere. The thread of the metrics holds the node, so nobody
    // waits for what that has to say.
    if let Some(control) = Arc::into_inner(control) {
        control.shutdown_background();
    }
    match ended {
        Ok(()) => std::process::exit(0),
        Err(error) => end_in_error(&error, format),
    }
}

/// What an executor has on disks.
pub(crate) struct ExecutorFolders {
    own: NodeFolder,
    storage: Storage,
}

impl ExecutorFolders {
    /// Opens them. From a thread, not a task.
    ///
    /// # Errors
    /// If one is in use, damaged or another cluster's.
    pub(crate) fn open(world: &World, options: &ExecutorOptions) -> Result<Self> {
        let env = &world.env;
        let own = match &options.data {
            Some(path) => NodeFolder::open(env, path, &options.cluster, lock(env, path)?)?,
            None => NodeFolder::none(env),
        };
        Ok(Self { own, storage: Storage::open(env, &options.storage, &options.cluster)? })
    }
}

/// An executor without its door to the network, and without the signals that end it.
pub(crate) struct ExecutorProcess {
    pub(crate) node: Arc<Node>,
    pub(crate) exchange: Exchange,
    folders: ExecutorFolders,
    owner: Arc<TopicOwner>,
    reports: Receiver<FromExecutor>,
}

impl ExecutorProcess {
    /// Starts the node. From a thread, not a task.
    ///
    /// # Errors
    /// E0214 if the system gives no more threads.
    pub(crate) fn start(
        world: &World,
        folders: ExecutorFolders,
        options: &ExecutorOptions,
        runtimes: Runtimes,
        workers: usize,
    ) -> Result<Self> {
        let env = &world.env;
        let storage = &folders.storage;
        let start = StartId(env.entropy.u64());
        let exchange = Exchange {
            runtimes,
            start,
            cluster: options.cluster.as_str().into(),
            dial: world.dial.clone(),
            incoming: Arc::default(),
        };
        let context = Context { env: env.clone(), topics: storage.topics.clone(), base: PathBuf::from("/") };
        let log = storage.topics.clone();
        let spill_root = match &options.data {
            Some(data) => data.join("spill"),
            None => std::env::temp_dir().join(format!("qanat-spill-{:016x}", start.0)),
        };
        let config = NodeConfig {
            env: env.clone(),
            opener: Arc::new(Registry::new(context)),
            checkpoints: storage.checkpoints.clone(),
            side_tables: side_tables(storage.topics.clone()),
            workers,
            exchange: Some(exchange.clone()),
            commit_log: Some(Arc::new(move |permit, owner| commit_owned(&log, permit, owner))),
            spill: Some(SpillRoot::open(env, spill_root)?),
        };
        let (outbox, reports) = unbounded();
        let node = Arc::new(Node::start(start, config, outbox)?);
        let owner = Arc::new(TopicOwner::new(env.clone(), storage.topics.clone()));
        Ok(Self { node, exchange, folders, owner, reports })
    }

    /// Does what the owner of topics is asked.
    pub(crate) fn perform(&self) -> Arc<PerformTask> {
        let owner = self.owner.clone();
        Arc::new(move |task, token| owner.perform(task, token))
    }

    /// Keeps it attached to whoever leads, until it cannot go on.
    ///
    /// # Errors
    /// Why it cannot go on.
    pub(crate) async fn run(
        &self,
        world: &World,
        options: ExecutorOptions,
        data_address: String,
        on_attached: Box<dyn Fn() + Send + Sync>,
    ) -> Result<()> {
        let attach = AttachConfig {
            cluster: options.cluster,
            node: options.node,
            folder: self.folders.own.number,
            incarnation: self.folders.own.starts,
            slots: options.slots,
            data_address,
            coordinators: options.coordinators,
            dial: world.dial.clone(),
            on_attached,
        };
        tokio::select! {
            ended = keep_attached(attach, self.node.clone(), self.reports.clone()) => ended,
            poisoned = until_poisoned(&self.folders.storage.checkpoints) => Err(poisoned),
            () = retain(self.folders.storage.topics.clone()) => Ok(()),
        }
    }
}

/// Applies what of the topics' retention goes by size and age, where this executor appends to them.
async fn retain(topics: Arc<Topics>) {
    let mut sweeps = Sweeps::default();
    loop {
        tokio::time::sleep(RETENTION_INTERVAL).await;
        let topics = topics.clone();
        let swept = thread::blocking(move || topics.retain_owned().map(drop)).await;
        sweeps.note(swept.unwrap_or_else(|e| Err(Error::new(Code::Panic, format!("a sweep failed: {e}")))));
    }
}
