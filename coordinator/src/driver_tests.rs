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

/// A leader that has yet to hear that it leads runs nothing, also what was made a moment ago: none of that is left over.
#[test]
fn a_job_that_is_not_run_yet_keeps_its_name() {
    let sim = Env::sim(1);
    let (events, heard) = unbounded();
    let (reports, inbox) = unbounded();
    let member = Arc::new(Member::alone(&sim.env, PathBuf::from("/commands")).expect("leads"));
    let coordinator = Coordinator::start(CoordinatorConfig {
        env: sim.env.clone(),
        member: member.clone(),
        checkpoints: Arc::new(CheckpointStore::new(Objects::new(Arc::new(InMemory::new())))),
        executors: Executors::Attached { nodes: Nodes::new(sim.env.clock.clone(), events, reports), events: heard },
        inbox,
    });
    let coordinator = coordinator.expect("starts");
    coordinator.submit(new_job(1)).expect("created");
    let mut again = new_job(2);
    again.epoch_zero.job_name = "job-1".to_owned();
    assert_eq!(coordinator.submit(again).expect_err("the name is taken").code(), Code::ForeignState);
    assert!(member.state(|state| state.job(JobId(1)).is_some_and(|job| !job.status.is_ended())));
}
