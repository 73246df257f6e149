//! One simulated machine, with a process of the cluster on it that dies and is started again.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Weak};

use qanat_coordinator::raft::Member;
use qanat_executor::exchange::{self, Runtimes};
use qanat_proto::{Code, Error, Result};
use qanat_storage::env::sim::{Random, SimDisk, SimEntropy};
use qanat_storage::env::{Disk, Env, thread};
use tokio::runtime::Handle;

use super::clock::HostClock;
use super::disk::{Life, OWN, ProcessDisk, Troubles};
use super::network::{SimDial, incoming};
use super::threads::Scheduler;
use super::trace::Trace;
use crate::cluster::{
    CoordinatorOptions, CoordinatorProcess, ExecutorFolders, ExecutorOptions, ExecutorProcess, World,
};
use crate::observe::MetricsArguments;
use crate::output::Format;

/// The name of the cluster.
const CLUSTER: &str = "simulated";
/// Where all processes have the cluster's storage.
pub(super) const STORAGE: &str = "/.sim/storage";
/// Where coordinators and executors listen.
const PORT: u16 = 7_000;

/// Added to the number of a coordinator whose disk is lost.
const NEXT_ID: u64 = 10;

/// What runs on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// With its id.
    Coordinator(u64),
    Executor,
}

/// What all machines of a cluster have in common.
pub(super) struct Shared {
    pub(super) scheduler: Rc<Scheduler>,
    pub(super) storage: SimDisk,
    pub(super) trace: Rc<Trace>,
    /// Addresses of the coordinators.
    pub(super) members: BTreeMap<u64, String>,
    pub(super) slots: u32,
    /// Compute threads of an executor.
    pub(super) workers: usize,
}

/// A machine.
pub(super) struct Machine {
    /// Of the host in the simulated network.
    pub(super) name: String,
    pub(super) role: Role,
    /// Number of its process with the scheduler; that of every life.
    pub(super) process: usize,
    own: RefCell<SimDisk>,
    /// Its coordinator's number: another one on each disk.
    id: Cell<u64>,
    /// What its disk holds may be wrong.
    pub(super) is_rotten: Cell<bool>,
    pub(super) clock: Rc<HostClock>,
    shared: Rc<Shared>,
    random: Random,
    life: RefCell<Arc<Life>>,
    /// A coordinator's part in its group.
    member: RefCell<Weak<Member>>,
    /// Of lives that are over: on its own disk, and in the storage.
    past: Cell<[Troubles; 2]>,
    /// How a process ended by itself, until somebody asks.
    ended: RefCell<Option<Error>>,
    lives: Cell<u64>,
}

pub(super) fn address(name: &str) -> String {
    format!("{name}:{PORT}")
}

impl Machine {
    pub(super) fn new(name: &str, role: Role, shared: &Rc<Shared>, clock: Rc<HostClock>, seed: u64) -> Rc<Self> {
        let random = Random::new(seed);
        let own = RefCell::new(empty_disk(&random, &clock));
        let id = match role {
            Role::Coordinator(id) => id,
            Role::Executor => 0,
        };
        Rc::new(Self {
            name: name.to_owned(),
            role,
            process: shared.scheduler.add(),
            own,
            id: Cell::new(id),
            is_rotten: Cell::default(),
            clock,
            shared: shared.clone(),
            random,
            life: RefCell::default(),
            member: RefCell::default(),
            past: Cell::default(),
            ended: RefCell::default(),
            lives: Cell::default(),
        })
    }

    pub(super) fn life(&self) -> Arc<Life> {
        self.life.borrow().clone()
    }

    pub(super) fn own(&self) -> SimDisk {
        self.own.borrow().clone()
    }

    /// Its disk is another one, and empty. A coordinator's old number and its new one.
    pub(super) fn lose_disk(&self) -> (u64, u64) {
        *self.own.borrow_mut() = empty_disk(&self.random, &self.clock);
        self.is_rotten.set(false);
        let old = self.id.get();
        self.id.set(old + NEXT_ID);
        (old, self.id.get())
    }

    /// Flips a bit somewhere in its coordinator's log. False if it has none.
    pub(super) fn rot(&self, size: u64) -> bool {
        let disk = self.own();
        let mut files = Vec::new();
        let mut folders = vec![Path::new(OWN).join("data/commands")];
        while let Some(folder) = folders.pop() {
            for entry in disk.list(&folder).unwrap_or_default() {
                match entry.is_dir {
                    true => folders.push(entry.path),
                    false if entry.len > 0 => files.push((entry.path, entry.len)),
                    false => {}
                }
            }
        }
        let Some((path, len)) = files.get(usize::try_from(size % files.len().max(1) as u64).unwrap_or(0)) else {
            return false;
        };
        let bit = (size / 7) % (len * 8);
        self.shared.trace.line(&self.name, &format!("bit {bit} of {} flips", path.display()));
        let has_flipped = disk.flip_bit(path, bit).is_ok();
        self.is_rotten.set(has_flipped);
        has_flipped
    }

    /// A coordinator's part in its group, and the number of the life that it is of.
    pub(super) fn member(&self) -> Option<(Arc<Member>, u64)> {
        Some((self.member.borrow().upgrade()?, self.lives.get()))
    }

    /// How its process ended by itself since the last question.
    pub(super) fn take_end(&self) -> Option<Error> {
        self.ended.borrow_mut().take()
    }

    /// Its process is dead, its disk is not.
    pub(super) fn bury(&self) {
        self.past.set([true, false].map(|is_own| self.troubles(is_own)));
        self.shared.scheduler.kill(self.process);
        *self.member.borrow_mut() = Weak::new();
        let life = std::mem::take(&mut *self.life.borrow_mut());
        life.end();
    }

    /// What went wrong on its disks in all its lives.
    pub(super) fn troubles(&self, is_own: bool) -> Troubles {
        let [own, shared] = self.past.get();
        let (past, now) = (if is_own { own } else { shared }, self.life.borrow().troubles(is_own));
        Troubles { full: past.full + now.full, broken: past.broken + now.broken, slow: past.slow + now.slow }
    }

    /// One life of its process, from its start on. In a runtime of its own.
    pub(super) async fn live(self: Rc<Self>) -> turmoil::Result {
        let life = Arc::<Life>::default();
        *self.life.borrow_mut() = life.clone();
        self.lives.set(self.lives.get() + 1);
        let disk = ProcessDisk { own: self.own(), shared: self.shared.storage.clone(), life };
        let env = Env {
            disk: Arc::new(disk),
            clock: Arc::new(self.clock.as_ref().clone()),
            entropy: Arc::new(SimEntropy::new(self.random.draw())),
        };
        let world = World { env, runtime: Handle::current(), dial: SimDial::shared() };
        let threads = self.shared.scheduler.clone().run(self.process);
        let ended = tokio::select! {
            biased;
            () = threads => Ok(()),
            ended = async {
                match self.role {
                    Role::Coordinator(_) => self.coordinate(world, self.id.get()).await,
                    Role::Executor => self.execute(world).await,
                }
            } => ended,
        };
        let error = ended.err().unwrap_or_else(|| Error::internal("it ended without a reason"));
        self.shared.trace.line(&self.name, &format!("ended: {error}"));
        *self.ended.borrow_mut() = Some(error);
        Ok(())
    }

    async fn coordinate(&self, world: World, id: u64) -> Result<()> {
        let options = Arc::new(CoordinatorOptions {
            cluster: CLUSTER.to_owned(),
            id,
            listen: String::new(),
            members: self.shared.members.clone(),
            founds: id == 1,
            data: Path::new(OWN).join("data"),
            storage: PathBuf::from(STORAGE),
            files_roots: None,
            security: None,
            metrics: MetricsArguments::default(),
            format: Format::Json,
        });
        let (given, started) = (options.clone(), world.clone());
        let process = from_thread(move || {
            let process = CoordinatorProcess::start(&started, &given)?;
            if given.founds {
                process.member.found(given.members.clone())?;
            }
            Ok(process)
        })
        .await?;
        *self.member.borrow_mut() = Arc::downgrade(&process.member);
        let router = process.router(&world, &options).await?;
        let connections = incoming(PORT).await.map_err(|e| Error::io("listen", &e))?;
        tokio::select! {
            served = router.serve_with_incoming(connections) => {
                served.map_err(|e| Error::internal(format!("serve: {e}")))
            }
            ended = process.until_ended() => Err(ended),
        }
    }

    async fn execute(&self, world: World) -> Result<()> {
        let own = Path::new(OWN);
        let options = ExecutorOptions {
            cluster: CLUSTER.to_owned(),
            node: self.name.clone(),
            slots: self.shared.slots,
            listen: String::new(),
            advertise: None,
            coordinators: self.shared.members.values().cloned().collect(),
            storage: PathBuf::from(STORAGE),
            data: Some(own.join("node")),
            security: None,
            metrics: MetricsArguments::default(),
            format: Format::Json,
        };
        let options = Arc::new(options);
        let (given, started, workers) = (options.clone(), world.clone(), self.shared.workers);
        let runtimes = Runtimes::new(vec![world.runtime.clone()]);
        let process = from_thread(move || {
            let folders = ExecutorFolders::open(&started, &given)?;
            ExecutorProcess::start(&started, folders, &given, runtimes, workers)
        })
        .await?;
        let router = exchange::router(process.exchange.clone(), None, Some(process.perform()))?;
        let connections = incoming(PORT).await.map_err(|e| Error::io("listen", &e))?;
        let options = Arc::into_inner(options).ok_or_else(|| Error::internal("its options are in use"))?;
        tokio::select! {
            served = router.serve_with_incoming(connections) => {
                served.map_err(|e| Error::internal(format!("serve: {e}")))
            }
            ended = process.run(&world, options, address(&self.name), Box::new(|| {})) => ended,
        }
    }
}

fn empty_disk(random: &Random, clock: &HostClock) -> SimDisk {
    let disk = SimDisk::with_clock(random.draw(), Arc::new(clock.clone()));
    make_folder(&disk, Path::new(OWN));
    disk
}

/// A folder that was there when the machine was made.
pub(super) fn make_folder(disk: &SimDisk, path: &Path) {
    let made = disk.create_dir_all(path);
    made.and_then(|()| path.ancestors().try_for_each(|folder| disk.sync_dir(folder)))
        .expect("a new disk takes a folder");
}

/// Does what needs a thread, for a task.
async fn from_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = thread::blocking(work).await;
    done.unwrap_or_else(|why| Err(Error::new(Code::Panic, why)))
}
