//! Threads, and waiting in them: the door that lets the simulator decide who runs.
//!
//! In production every function here is the one of the standard library (or of crossbeam, or tokio) that its name
//! says. Under [`simulate`] all threads of all processes take turns in one: whoever would wait gives up its turn
//! instead, and looks again when it has the next. Nothing in the engine starts a thread or waits in one by another way
//! (a tidy test holds this); a plain `Mutex` that nobody holds while waiting or at the disk needs no door.
//!
//! What runs in tasks of tokio must not wait here, under the simulator or not: [`blocking`] takes work off them.

use std::any::Any;
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvError, RecvTimeoutError, SendError, Sender, TryRecvError, TrySendError};

/// Who decides which thread runs, in the place of the operating system.
pub trait Threads {
    /// Starts a thread of the process whose turn it is, with a stack of so many bytes.
    fn spawn(&self, thread: Arc<Simulated>, stack_bytes: usize, work: Box<dyn FnOnce()>);
    /// The thread whose turn it is. None: a task of tokio runs, which may not wait.
    fn current(&self) -> Option<Arc<Simulated>>;
    /// Gives up the turn of the current thread, until `until` ([`Self::now`]) or sooner. `is_first`: it has done
    /// something since its last pause, so that others may have something to do.
    fn pause(&self, until: Option<Duration>, is_first: bool);
    /// The simulated monotonic time.
    fn now(&self) -> Duration;
}

/// A simulated thread.
#[derive(Debug)]
pub struct Simulated {
    pub name: String,
    /// Somebody has unparked it.
    is_unparked: AtomicBool,
}

/// The stacks of [`spawn`] (as the standard library has it) and of [`spawn_deep`].
const STACK_BYTES: usize = 2 << 20;
const DEEP_STACK_BYTES: usize = 16 << 20;

thread_local! {
    static THREADS: RefCell<Option<Rc<dyn Threads>>> = const { RefCell::new(None) };
}

/// From now on, threads that this thread of the system starts are simulated.
pub fn simulate(threads: Rc<dyn Threads>) {
    THREADS.with_borrow_mut(|slot| *slot = Some(threads));
}

/// Whether threads are simulated.
pub fn is_simulated() -> bool {
    THREADS.with_borrow(Option::is_some)
}

/// Whether the current thread ends in the middle of something: it panics, or its process is killed in the simulator.
pub fn is_ending() -> bool {
    std::thread::panicking()
}

fn threads() -> Option<Rc<dyn Threads>> {
    THREADS.with_borrow(Clone::clone)
}

/// A thread that can be woken.
#[derive(Clone, Debug)]
pub enum Thread {
    Real(std::thread::Thread),
    Simulated(Arc<Simulated>),
}

impl Thread {
    /// Ends its [`park`], or the next one if it is not parked.
    pub fn unpark(&self) {
        match self {
            Self::Real(thread) => thread.unpark(),
            Self::Simulated(thread) => thread.is_unparked.store(true, Ordering::Release),
        }
    }

    pub fn is_current(&self) -> bool {
        match self {
            Self::Real(thread) => thread.id() == std::thread::current().id(),
            Self::Simulated(thread) => {
                threads().and_then(|threads| threads.current()).is_some_and(|current| Arc::ptr_eq(&current, thread))
            }
        }
    }
}

/// The thread that asks.
pub fn current() -> Thread {
    match threads().and_then(|threads| threads.current()) {
        Some(thread) => Thread::Simulated(thread),
        None => Thread::Real(std::thread::current()),
    }
}

type Ended<T> = Arc<Mutex<Option<std::thread::Result<T>>>>;

/// A thread that was started.
#[derive(Debug)]
pub struct JoinHandle<T>(Handle<T>);

#[derive(Debug)]
enum Handle<T> {
    Real(std::thread::JoinHandle<T>),
    Simulated(Arc<Simulated>, Ended<T>),
}

impl<T> JoinHandle<T> {
    /// Waits for its end.
    ///
    /// # Errors
    /// What it panicked with.
    pub fn join(self) -> std::thread::Result<T> {
        match self.0 {
            Handle::Real(thread) => thread.join(),
            Handle::Simulated(_, ended) => {
                let take = || lock(&ended).take();
                let is_thread = threads().is_some_and(|threads| threads.current().is_some());
                let result = if is_thread { wait_for(None, take) } else { take() };
                // What is dropped with a process that dies cannot wait for its threads: they die with it.
                result.unwrap_or_else(|| Err(Box::new("nobody can wait for a thread here") as Box<dyn Any + Send>))
            }
        }
    }

    pub fn is_finished(&self) -> bool {
        match &self.0 {
            Handle::Real(thread) => thread.is_finished(),
            Handle::Simulated(_, ended) => lock(ended).is_some(),
        }
    }

    pub fn thread(&self) -> Thread {
        match &self.0 {
            Handle::Real(thread) => Thread::Real(thread.thread().clone()),
            Handle::Simulated(thread, _) => Thread::Simulated(thread.clone()),
        }
    }
}

/// Starts a thread.
///
/// # Errors
/// If the system gives none.
pub fn spawn<T: Send + 'static>(
    name: impl Into<String>,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    spawn_with(name.into(), STACK_BYTES, work)
}

/// As [`spawn`], with room for deep recursion.
///
/// # Errors
/// If the system gives none.
pub fn spawn_deep<T: Send + 'static>(
    name: impl Into<String>,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    spawn_with(name.into(), DEEP_STACK_BYTES, work)
}

fn spawn_with<T: Send + 'static>(
    name: String,
    stack_bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let Some(threads) = threads() else {
        let thread = std::thread::Builder::new().name(name).stack_size(stack_bytes).spawn(work)?;
        return Ok(JoinHandle(Handle::Real(thread)));
    };
    let thread = Arc::new(Simulated { name, is_unparked: AtomicBool::new(false) });
    let ended = Ended::<T>::default();
    let end = ended.clone();
    let run = move || {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        *lock(&end) = Some(result);
    };
    threads.spawn(thread.clone(), stack_bytes, Box::new(run));
    Ok(JoinHandle(Handle::Simulated(thread, ended)))
}

/// Does work that may wait, for a task of tokio, which must not.
///
/// # Errors
/// The text of a panic of the work, or that the runtime ends.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    if !is_simulated() {
        return tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string());
    }
    let (answer, answered) = tokio::sync::oneshot::channel();
    let thread = spawn("blocking", move || drop(answer.send(work()))).map_err(|error| error.to_string())?;
    match answered.await {
        Ok(done) => Ok(done),
        Err(_) => Err(format!("{:?} panicked", thread.thread())),
    }
}

/// Runs a future to its end on the runtime of `handle`.
pub fn block_on<F: Future>(handle: &tokio::runtime::Handle, future: F) -> F::Output {
    if is_simulated() { poll_to_the_end(future) } else { handle.block_on(future) }
}

/// Runs a future that needs no runtime to its end.
pub fn block_on_here<F: Future>(future: F) -> F::Output {
    if is_simulated() { poll_to_the_end(future) } else { futures::executor::block_on(future) }
}

fn poll_to_the_end<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    let mut poll = || match future.as_mut().poll(&mut context) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    };
    wait_for(None, &mut poll).expect("a wait without a limit ends with an answer")
}

/// Looks until there is something, or the time is over. Only under the simulator.
fn wait_for<T>(limit: Option<Duration>, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let threads = threads().expect("threads are simulated");
    let until = limit.map(|limit| threads.now().saturating_add(limit));
    let mut is_first = true;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if until.is_some_and(|until| threads.now() >= until) {
            return None;
        }
        threads.pause(until, is_first);
        is_first = false;
    }
}

/// Waits for the next message.
///
/// # Errors
/// If all senders are gone.
pub fn recv<T>(receiver: &Receiver<T>) -> Result<T, RecvError> {
    if !is_simulated() {
        return receiver.recv();
    }
    wait_for(None, || match receiver.try_recv() {
        Ok(message) => Some(Ok(message)),
        Err(TryRecvError::Disconnected) => Some(Err(RecvError)),
        Err(TryRecvError::Empty) => None,
    })
    .unwrap_or(Err(RecvError))
}

/// All messages until all senders are gone, waiting for each.
pub fn messages<T>(receiver: &Receiver<T>) -> impl Iterator<Item = T> + '_ {
    std::iter::from_fn(|| recv(receiver).ok())
}

/// Waits for the next message, at most so long.
///
/// # Errors
/// If all senders are gone, or the time is over.
pub fn recv_timeout<T>(receiver: &Receiver<T>, limit: Duration) -> Result<T, RecvTimeoutError> {
    if !is_simulated() {
        return receiver.recv_timeout(limit);
    }
    wait_for(Some(limit), || match receiver.try_recv() {
        Ok(message) => Some(Ok(message)),
        Err(TryRecvError::Disconnected) => Some(Err(RecvTimeoutError::Disconnected)),
        Err(TryRecvError::Empty) => None,
    })
    .unwrap_or(Err(RecvTimeoutError::Timeout))
}

/// Sends a message, waiting for room.
///
/// # Errors
/// If the receiver is gone.
pub fn send<T>(sender: &Sender<T>, message: T) -> Result<(), SendError<T>> {
    if !is_simulated() {
        return sender.send(message);
    }
    let mut message = Some(message);
    wait_for(None, || match sender.try_send(message.take()?) {
        Ok(()) => Some(Ok(())),
        Err(TrySendError::Full(back)) => {
            message = Some(back);
            None
        }
        Err(TrySendError::Disconnected(back)) => Some(Err(SendError(back))),
    })
    .expect("a wait without a limit ends with an answer")
}

/// Lets time go by.
pub fn rest(time: Duration) {
    if is_simulated() {
        wait_for::<()>(Some(time), || None);
    } else {
        std::thread::sleep(time);
    }
}

/// Lets another thread run.
pub fn yield_now() {
    match threads() {
        Some(threads) => threads.pause(None, false),
        None => std::thread::yield_now(),
    }
}

/// Waits until somebody unparks this thread. May end early.
pub fn park() {
    match threads().and_then(|threads| threads.current()) {
        Some(thread) => {
            wait_for(None, || thread.is_unparked.swap(false, Ordering::Acquire).then_some(()));
        }
        None => std::thread::park(),
    }
}

/// As [`park`], at most so long.
pub fn park_timeout(limit: Duration) {
    match threads().and_then(|threads| threads.current()) {
        Some(thread) => {
            wait_for(Some(limit), || thread.is_unparked.swap(false, Ordering::Acquire).then_some(()));
        }
        None => std::thread::park_timeout(limit),
    }
}

/// Locks a mutex that others hold while they wait or are at the disk. A holder that panicked is no reason not to.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    if !is_simulated() {
        return mutex.lock().unwrap_or_else(PoisonError::into_inner);
    }
    until_free(|| mutex.try_lock())
}

/// As [`lock`], with others that only read.
pub fn read<T: ?Sized>(shared: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    if !is_simulated() {
        return shared.read().unwrap_or_else(PoisonError::into_inner);
    }
    until_free(|| shared.try_read())
}

/// As [`lock`], where others only read.
pub fn write<T: ?Sized>(shared: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    if !is_simulated() {
        return shared.write().unwrap_or_else(PoisonError::into_inner);
    }
    until_free(|| shared.try_write())
}

fn until_free<G>(take: impl Fn() -> Result<G, TryLockError<G>>) -> G {
    let look = || match take() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    };
    // Free as a rule, and then nobody need be a thread for it.
    look().unwrap_or_else(|| wait_for(None, look).expect("a wait without a limit ends with an answer"))
}

/// A condition of what a mutex holds, to be waited for.
#[derive(Debug, Default)]
pub struct Condvar {
    real: std::sync::Condvar,
    /// How often somebody was told, under the simulator.
    told: AtomicU64,
}

impl Condvar {
    pub const fn new() -> Self {
        Self { real: std::sync::Condvar::new(), told: AtomicU64::new(0) }
    }

    pub fn notify_one(&self) {
        self.told.fetch_add(1, Ordering::Release);
        self.real.notify_one();
    }

    pub fn notify_all(&self) {
        self.told.fetch_add(1, Ordering::Release);
        self.real.notify_all();
    }

    /// Lets go of `guard`, which is of `mutex`, until somebody tells; may end early.
    pub fn wait<'a, T>(&self, mutex: &'a Mutex<T>, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        if !is_simulated() {
            return self.real.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.wait_simulated(None, guard);
        lock(mutex)
    }

    /// As [`Self::wait`], at most so long.
    pub fn wait_timeout<'a, T>(
        &self,
        mutex: &'a Mutex<T>,
        guard: MutexGuard<'a, T>,
        limit: Duration,
    ) -> MutexGuard<'a, T> {
        if !is_simulated() {
            return self.real.wait_timeout(guard, limit).unwrap_or_else(PoisonError::into_inner).0;
        }
        self.wait_simulated(Some(limit), guard);
        lock(mutex)
    }

    fn wait_simulated<T>(&self, limit: Option<Duration>, guard: MutexGuard<'_, T>) {
        let before = self.told.load(Ordering::Acquire);
        drop(guard);
        wait_for(limit, || (self.told.load(Ordering::Acquire) != before).then_some(()));
    }
}
