use std::fmt;
use std::path::PathBuf;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};
use qanat_proto::graph::JobGraph;
use qanat_storage::env::sim::SimEnv;
use qanat_storage::object::Objects;

use super::*;

/// Long for a busy machine: every wait ends when its condition holds.
const LIMIT: Duration = Duration::from_secs(60);

/// A store in memory that says when it is to be listed, and waits then.
struct Gated {
    inner: InMemory,
    listing: Sender<()>,
    gate: Receiver<()>,
}

impl fmt::Display for Gated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("gated")
    }
}

impl fmt::Debug for Gated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[tonic::async_trait]
impl ObjectStore for Gated {
    async fn put_opts(&self, at: &Path, bytes: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        self.inner.put_opts(at, bytes, options).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.inner.get_opts(at, options).await
    }

    fn delete_stream(
        &self,
        all: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(all)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let (found, listing, gate) = (self.inner.list(prefix), self.listing.clone(), self.gate.clone());
        let wait = async move {
            let _ = listing.send(());
            // Ends when the other end is dropped.
            let _ = gate.recv();
            found
        };
        stream::once(wait).flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

struct Nobody;

impl ExecutorLink for Nobody {
    fn send(&self, _: ToExecutor) {}
}

fn new_job(id: u128) -> NewJob {
    let graph = JobGraph { operators: Vec::new(), edges: Vec::new() };
    let settings = JobSettings::default();
    let epoch_zero = Manifest::epoch_zero(JobId(id), format!("job-{id}"), 0, graph, settings, Vec::new());
    NewJob { script_digest: String::new(), epoch_zero, run_with: None }
}

/// A collection lists the whole store: an epoch whose manifest waited for that would be late by as much.
#[test]
fn no_manifest_waits_for_a_collection() {
    let sim = Env::sim(1);
    let (listing, is_listed) = unbounded();
    let (open, gate) = unbounded();
    let store = Objects::new(Arc::new(Gated { inner: InMemory::new(), listing, gate }));
    let (_reports, inbox) = unbounded();
    let coordinator = Coordinator::start(CoordinatorConfig {
        env: sim.env.clone(),
        member: Arc::new(Member::alone(&sim.env, PathBuf::from("/commands")).expect("leads")),
        checkpoints: Arc::new(CheckpointStore::new(store)),
        executors: Executors::Own { start: StartId(1), link: Box::new(Nobody) },
        inbox,
    });
    let coordinator = Arc::new(coordinator.expect("starts"));
    // Dropped before the coordinator, which waits for its threads.
    let open: Sender<()> = open;
    coordinator.submit(new_job(1)).expect("created");
    for command in [Command::Close { job: JobId(1), outcome: Outcome::Stopped }, Command::DropJob { job: JobId(1) }] {
        assert!(coordinator.decide(command).expect("decided").is_ok());
    }
    is_listed.recv_timeout(LIMIT).expect("what is dropped is collected");
    let (done, is_done) = bounded(1);
    let submits = coordinator.clone();
    let thread = std::thread::spawn(move || done.send(submits.submit(new_job(2))));
    is_done.recv_timeout(LIMIT).expect("it does not wait for the collection").expect("created");
    drop(open);
    thread.join().expect("ends").expect("heard");
}

/// The only coordinator of a cluster that has no executor yet.
fn of_a_cluster(sim: &SimEnv) -> (Coordinator, Arc<Member>, Arc<Nodes>) {
    let (events, heard) = unbounded();
    let (reports, inbox) = unbounded();
    let member = Arc::new(Member::alone(&sim.env, PathBuf::from("/commands")).expect("leads"));
    let nodes = Nodes::new(sim.env.clock.clone(), events, reports);
    let coordinator = Coordinator::start(CoordinatorConfig {
        env: sim.env.clone(),
        member: member.clone(),
        checkpoints: Arc::new(CheckpointStore::new(Objects::new(Arc::new(InMemory::new())))),
        executors: Executors::Attached { nodes: nodes.clone(), events: heard },
        inbox,
    });
    let coordinator = coordinator.expect("starts");
    (coordinator, member, nodes)
}

/// A leader that has yet to hear that it leads runs nothing, also what was made a moment ago: none of that is left over.
#[test]
fn a_job_that_is_not_run_yet_keeps_its_name() {
    let sim = Env::sim(1);
    let (coordinator, member, _) = of_a_cluster(&sim);
    coordinator.submit(new_job(1)).expect("created");
    let mut again = new_job(2);
    again.epoch_zero.job_name = "job-1".to_owned();
    assert_eq!(coordinator.submit(again).expect_err("the name is taken").code(), Code::ForeignState);
    assert!(member.state(|state| state.job(JobId(1)).is_some_and(|job| !job.status.is_ended())));
}

/// Leadership is told anew when something was not decided here. An earlier word of it that still waits in the queue must
/// not stand for the later one: what was decided between the two would be run by nobody.
#[test]
fn what_was_decided_since_it_leads_is_run_when_leadership_is_told_again() {
    let sim = Env::sim(1);
    let (coordinator, member, nodes) = of_a_cluster(&sim);
    member.runtime().block_on(nodes.until_it_leads());
    let term = member.raft_status().term;
    let NewJob { epoch_zero, .. } = new_job(1);
    let settings = epoch_zero.settings.clone();
    let create = Command::CreateJob {
        job: JobId(1),
        name: epoch_zero.job_name,
        script_digest: String::new(),
        manifest_key: String::new(),
        checksum: String::new(),
        run_with: Some(Box::new(RunWith { parallelism: 1, settings, together: false, trace: None, topics: None })),
    };
    for command in [create, Command::StopWithSavepoint { job: JobId(1) }] {
        assert!(member.propose(&command).expect("decided").is_ok());
    }
    coordinator.events.send(Event::Leadership(Leadership::Leading { term })).expect("it runs");
    // Whoever runs it sees that there is nobody to wait for, and ends it.
    let begun = std::time::Instant::now();
    while !member.state(|state| state.job(JobId(1)).is_some_and(|job| job.status.is_ended())) {
        assert!(begun.elapsed() < LIMIT, "nobody runs it");
        std::thread::yield_now();
    }
}
