//! State that operators put aside, between them and the store on the local disk.
//!
//! Operators do no IO: a chain sends what they put aside to a thread here, and asks it for what they need to go on. What
//! one operator sends is done in order, so that it never reads past what it has written. Operators are asked to put state
//! aside when a job holds more than [`HIGH`] of its budget: tables double when they grow, and what is on its way to the
//! disk is in memory twice.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crossbeam::channel::{Receiver, Sender, unbounded};
use crossbeam::queue::ArrayQueue;
use qanat_proto::{Error, Place, Result};
use qanat_storage::env::{Entropy, Env, thread};
use qanat_storage::spill::{Entries, Keys, Space, Store};

use crate::memory::{self, JobMemory};
use crate::node::{LaneThreads, Reporter};
use crate::operator::{Operator, Output};
use crate::task::lane;
use crate::task::pool::Waker;

/// Where generations put state aside.
#[derive(Clone)]
pub struct SpillRoot {
    env: Env,
    folder: PathBuf,
}

impl SpillRoot {
    /// `folder`: this process's alone. It is emptied.
    ///
    /// # Errors
    /// If it cannot be emptied.
    pub fn open(env: &Env, folder: impl Into<PathBuf>) -> Result<Self> {
        let folder = folder.into();
        Store::clear(env, &folder)?;
        Ok(Self { env: env.clone(), folder })
    }

    /// Starts the threads of a generation; they end with the last [`SpillLane`].
    ///
    /// # Errors
    /// E0214 if the system gives no more threads.
    pub fn start(&self, memory: Arc<JobMemory>, reporter: &Reporter, threads: &LaneThreads) -> Result<Spill> {
        let token = reporter.token();
        let store = Store::new(&self.env, self.folder.join(format!("{}-g{}", token.job, token.generation.0)));
        let mut queues = Vec::new();
        let (merges, due) = unbounded();
        let work = move || merge(&due);
        threads.add_source(lane::spawn("spill-merge".to_owned(), reporter.clone(), work)?);
        for index in 0..THREADS {
            let (sender, requests) = unbounded();
            let merges = merges.clone();
            let work = move || serve(&requests, &merges);
            threads.add_source(lane::spawn(format!("spill-{index}"), reporter.clone(), work)?);
            queues.push(sender);
        }
        // A simulated job is too small to need it, and is to do it all the same.
        let dice = thread::is_simulated().then(|| self.env.entropy.clone());
        Ok(Spill { store: Arc::new(store), queues, merges, memory, dice, in_flight: Arc::default() })
    }
}

/// Threads that read and write, each for its part of the operators.
const THREADS: usize = 2;
/// Parts in 100 of the budget above which state is put aside, and down to which.
const HIGH: usize = 34;
const LOW: usize = 28;
/// Operators that hold less are left alone.
const LEAST_BYTES: usize = 1 << 18;
/// No more is put aside at once, and no more than this part of the budget: on its way to the disk it is in memory several
/// times.
const AT_ONCE_BYTES: usize = 64 << 20;
const AT_ONCE_PART: usize = 20;
/// The allocator is told to give back what is free whenever this part of the budget has left memory.
const TRIM_PART: usize = 4;
/// What is put aside at once while state is read back.
const RESTORE_BYTES: usize = 8 << 20;

enum Request {
    Write { space: Counted, entries: Entries, ticket: Ticket },
    Read { space: Counted, keys: Keys, reply: Arc<ArrayQueue<Entries>>, waker: Waker },
}

/// A space, and what of the budget it holds.
#[derive(Clone)]
struct Counted {
    space: Space,
    bytes: Arc<Mutex<usize>>,
    memory: Arc<JobMemory>,
}

impl Counted {
    fn count(&self) {
        let mut bytes = thread::lock(&self.bytes);
        let now = self.space.bytes();
        self.memory.change(*bytes, now);
        *bytes = now;
    }
}

/// Bytes that wait to be written.
struct Ticket {
    memory: Arc<JobMemory>,
    bytes: usize,
    waiting: Arc<AtomicUsize>,
    in_flight: Arc<AtomicUsize>,
    waker: Waker,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.memory.shrink(self.bytes);
        self.in_flight.fetch_sub(self.bytes, Ordering::AcqRel);
        self.waiting.fetch_sub(1, Ordering::AcqRel);
        // Memory may still be short, and the task without work.
        self.waker.wake();
    }
}

/// The store of a generation and its threads.
pub struct Spill {
    store: Arc<Store>,
    queues: Vec<Sender<Request>>,
    merges: Sender<Counted>,
    memory: Arc<JobMemory>,
    dice: Option<Arc<dyn Entropy>>,
    in_flight: Arc<AtomicUsize>,
}

impl Spill {
    /// For one operator of one subtask. `name`: nobody else's.
    pub fn lane(&self, name: String, index: u32, waker: Waker) -> SpillLane {
        let queue = self.queues.get(index as usize % THREADS).cloned();
        SpillLane {
            name,
            store: self.store.clone(),
            space: None,
            queue,
            merges: self.merges.clone(),
            dice: self.dice.clone(),
            memory: self.memory.clone(),
            waker,
            waiting: Arc::default(),
            in_flight: self.in_flight.clone(),
            stuck_at: None,
            reply: Arc::new(ArrayQueue::new(1)),
            is_asking: false,
            held: 0,
        }
    }
}

fn serve(requests: &Receiver<Request>, merges: &Sender<Counted>) -> Result<()> {
    for request in thread::messages(requests) {
        match request {
            Request::Write { space, entries, ticket } => {
                write(&space, &entries)?;
                drop((entries, ticket));
                let _ = merges.send(space);
            }
            Request::Read { space, keys, reply, waker } => {
                reply.force_push(read(&space, &keys)?);
                waker.wake();
            }
        }
    }
    Ok(())
}

fn write(space: &Counted, entries: &Entries) -> Result<()> {
    space.space.write(entries)?;
    space.count();
    let part = (space.memory.limit() / TRIM_PART).max(1) as u64;
    let after = space.memory.note_put_aside(entries.bytes());
    if after / part > (after - entries.bytes() as u64) / part {
        memory::give_back();
    }
    Ok(())
}

fn read(space: &Counted, keys: &Keys) -> Result<Entries> {
    let found = space.space.read(keys)?;
    space.memory.note_brought_back(found.bytes());
    Ok(found)
}

/// Runs become fewer beside the reads and writes.
fn merge(due: &Receiver<Counted>) -> Result<()> {
    for space in thread::messages(due) {
        while space.space.merge()? {
            space.count();
        }
    }
    Ok(())
}

/// What one operator of one subtask has put aside.
pub struct SpillLane {
    name: String,
    store: Arc<Store>,
    /// Opened when something is put aside first.
    space: Option<Counted>,
    queue: Option<Sender<Request>>,
    merges: Sender<Counted>,
    /// Whether state is put aside is diced for, and not a question of memory.
    dice: Option<Arc<dyn Entropy>>,
    memory: Arc<JobMemory>,
    waker: Waker,
    /// Writes that are under way.
    waiting: Arc<AtomicUsize>,
    /// Bytes that wait to be written, of all operators.
    in_flight: Arc<AtomicUsize>,
    /// Bytes of state when little of it could leave.
    stuck_at: Option<usize>,
    reply: Arc<ArrayQueue<Entries>>,
    is_asking: bool,
    /// Bytes of state that count against the budget while it is read back.
    held: usize,
}

impl SpillLane {
    fn space(&mut self) -> Result<Counted> {
        if let Some(space) = &self.space {
            return Ok(space.clone());
        }
        let space = self.store.space().map_err(|error| self.at(error))?;
        let space = Counted { space, bytes: Arc::default(), memory: self.memory.clone() };
        self.space = Some(space.clone());
        Ok(space)
    }

    fn at(&self, error: Error) -> Error {
        error.or_at(|| Place::Named(self.name.clone()))
    }

    /// How many bytes an operator that holds so many should put aside now; 0: none.
    /// `has_worked`: its chain has done something since it was asked last.
    pub fn is_due(&self, state_bytes: usize, has_worked: bool) -> usize {
        let part = |parts: usize| self.memory.limit() / 100 * parts;
        let used = self.memory.used();
        if self.waiting.load(Ordering::Acquire) > 0 {
            return 0;
        }
        if let Some(dice) = &self.dice {
            return if has_worked && dice.u64().is_multiple_of(4) { state_bytes / 2 } else { 0 };
        }
        let used = used.saturating_sub(self.in_flight.load(Ordering::Acquire));
        let is_stuck = self.stuck_at.is_some_and(|bytes| state_bytes < bytes + bytes / 8);
        if used <= part(HIGH) || state_bytes < LEAST_BYTES || is_stuck {
            return 0;
        }
        // Its share of what is too much.
        let share = (used - part(LOW)) as u128 * state_bytes as u128 / used as u128;
        let most = (self.memory.limit() / AT_ONCE_PART).clamp(LEAST_BYTES, AT_ONCE_BYTES);
        (share as usize).clamp(LEAST_BYTES / 2, most).min(state_bytes / 2)
    }

    /// An epoch has ended: what could not leave then may leave now.
    pub fn try_again(&mut self) {
        self.stuck_at = None;
    }

    /// Writes entries that were put aside, in the background. `wanted`: bytes that were to leave; `state`: how many there
    /// were and are.
    ///
    /// # Errors
    /// If there is no store.
    pub fn write(&mut self, entries: Entries, wanted: usize, state: (usize, usize)) -> Result<()> {
        // Rows that are kept in columns leave room when half of a chunk is gone.
        let is_little = state.0.saturating_sub(state.1).max(entries.bytes()) < wanted / 8;
        self.stuck_at = is_little.then_some(state.1);
        if entries.is_empty() {
            return Ok(());
        }
        let space = self.space()?;
        let bytes = entries.bytes();
        self.memory.grow(bytes);
        self.waiting.fetch_add(1, Ordering::AcqRel);
        self.in_flight.fetch_add(bytes, Ordering::AcqRel);
        let ticket = Ticket {
            memory: self.memory.clone(),
            bytes,
            waiting: self.waiting.clone(),
            in_flight: self.in_flight.clone(),
            waker: self.waker.clone(),
        };
        self.send(Request::Write { space, entries, ticket });
        Ok(())
    }

    /// Asks for entries; the task is woken when they are there.
    ///
    /// # Errors
    /// If there is no store.
    pub fn ask(&mut self, keys: Keys) -> Result<()> {
        let space = self.space()?;
        self.is_asking = true;
        let (reply, waker) = (self.reply.clone(), self.waker.clone());
        self.send(Request::Read { space, keys, reply, waker });
        Ok(())
    }

    fn send(&self, request: Request) {
        if let Some(queue) = &self.queue {
            // The thread ends before only if it has failed, which ends the generation.
            let _ = queue.send(request);
        }
    }

    /// Whether what was asked for is still to come.
    pub fn is_waiting(&self) -> bool {
        self.is_asking && self.reply.is_empty()
    }

    /// What was asked for, once.
    pub fn answer(&mut self) -> Option<Entries> {
        self.is_asking = false;
        self.reply.pop()
    }

    /// Rows of the state have been given to `operator`, which is not at work yet: gives it what it needs to take them in,
    /// and puts state aside that it has no memory for. Reads and writes at once.
    ///
    /// # Errors
    /// What the store and the operator say.
    pub fn restore(&mut self, operator: &mut dyn Operator) -> Result<()> {
        while let Some(keys) = operator.wanted() {
            let found = read(&self.space()?, &keys)?;
            operator.bring_back(&found)?;
            operator.resume(&mut Output::default())?;
        }
        self.hold(operator.state_bytes());
        loop {
            let bytes = self.is_due(self.held, true);
            if bytes == 0 || self.held == 0 {
                return Ok(());
            }
            let entries = operator.put_aside(bytes.max(RESTORE_BYTES))?;
            let before = self.held;
            self.hold(operator.state_bytes());
            if entries.is_empty() && self.held >= before {
                return Ok(());
            }
            let space = self.space()?;
            write(&space, &entries)?;
            let _ = self.merges.send(space);
        }
    }

    fn hold(&mut self, bytes: usize) {
        self.memory.change(self.held, bytes);
        self.held = bytes;
    }

    /// Bytes of state that have been counted so far; whoever asks counts on.
    pub fn take_held(&mut self) -> usize {
        std::mem::take(&mut self.held)
    }
}

impl Drop for SpillLane {
    fn drop(&mut self) {
        self.memory.shrink(self.held);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // The last one gives back what its space holds.
        if Arc::strong_count(&self.bytes) == 1 {
            self.memory.shrink(std::mem::take(&mut *thread::lock(&self.bytes)));
        }
    }
}
