//! The threads of all simulated processes, which take turns in one thread of the machine.
//!
//! A thread is a coroutine. The runtime of its process gives it a turn once per tick, and again within the tick while
//! any thread of the process gets on; a thread that waits looks again at each turn whether its wait is over
//! ([`qanat_storage::env::thread`]). So the order of all that happens follows from the order in which threads were
//! started, and from nothing else.
//!
//! A process that dies leaves its threads where they are: like a killed one's, they run no destructor and let go of
//! nothing. One process of the machine simulates one cluster once, and takes what is left to its own end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use qanat_storage::env::thread::{Simulated, Threads};
use tokio::runtime::Handle;

/// One step of simulated time.
pub(super) const TICK: Duration = Duration::from_millis(1);
/// Turns of a process within one tick: threads that only hand each other work do not stop the clock.
const ROUNDS_MAX: usize = 200;

/// Says when it waits, and whether it has done something before.
type Waiting = Yielder<(), bool>;

struct Thread {
    known: Arc<Simulated>,
    coroutine: Coroutine<(), bool, (), DefaultStack>,
    /// Where it says so: on its own stack, from its first turn on.
    waiting: Rc<Cell<*const Waiting>>,
}

#[derive(Default)]
struct Process {
    threads: Vec<Thread>,
    is_paused: bool,
    /// Of the runtime that it runs on now.
    runtime: Option<tokio::runtime::Id>,
}

struct Running {
    process: usize,
    known: Arc<Simulated>,
    waiting: Rc<Cell<*const Waiting>>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Scheduler {
    now: Cell<Duration>,
    processes: RefCell<Vec<Process>>,
    running: RefCell<Option<Running>>,
}

impl Scheduler {
    pub(super) fn tick(&self) {
        self.now.set(self.now.get() + TICK);
    }

    /// A new process, without threads.
    pub(super) fn add(&self) -> usize {
        let mut processes = self.processes.borrow_mut();
        processes.push(Process::default());
        processes.len() - 1
    }

    /// Gives the threads of a process their turns for as long as its runtime lives. In a task of that runtime.
    pub(super) async fn run(self: Rc<Self>, process: usize) {
        self.with(process, |process| process.runtime = Some(Handle::current().id()));
        // Threads use the runtime as much as they like within their turns.
        tokio::task::coop::unconstrained(async {
            loop {
                self.turns(process);
                tokio::time::sleep(TICK).await;
            }
        })
        .await;
    }

    /// Whether its threads wait for turns.
    pub(super) fn pause_process(&self, process: usize, is_paused: bool) {
        self.with(process, |process| process.is_paused = is_paused);
    }

    /// Its threads never run again.
    pub(super) fn kill(&self, process: usize) {
        let threads = self.with(process, std::mem::take).threads;
        threads.into_iter().for_each(std::mem::forget);
    }

    /// The process that runs now, threads and tasks alike.
    pub(super) fn process(&self) -> Option<usize> {
        if let Some(running) = self.running.borrow().as_ref() {
            return Some(running.process);
        }
        let runtime = Handle::try_current().ok()?.id();
        self.processes.borrow().iter().position(|process| process.runtime == Some(runtime))
    }

    fn with<T>(&self, process: usize, change: impl FnOnce(&mut Process) -> T) -> T {
        change(self.processes.borrow_mut().get_mut(process).expect("processes are never taken away"))
    }

    fn turns(&self, process: usize) {
        for _ in 0..ROUNDS_MAX {
            if self.with(process, |process| process.is_paused) || !self.round(process) {
                return;
            }
        }
    }

    /// One turn for each. Whether any of them got on.
    fn round(&self, process: usize) -> bool {
        let mut threads = self.with(process, |process| std::mem::take(&mut process.threads));
        let mut has_moved = false;
        threads.retain_mut(|thread| {
            let running = Running { process, known: thread.known.clone(), waiting: thread.waiting.clone() };
            *self.running.borrow_mut() = Some(running);
            let result = thread.coroutine.resume(());
            *self.running.borrow_mut() = None;
            has_moved |= !matches!(result, CoroutineResult::Yield(false));
            matches!(result, CoroutineResult::Yield(_))
        });
        self.with(process, |process| {
            has_moved |= !process.threads.is_empty();
            // Behind those that were there before.
            threads.append(&mut process.threads);
            process.threads = threads;
        });
        has_moved
    }
}

/// What the engine sees of it.
pub(super) struct SimThreads(pub(super) Rc<Scheduler>);

impl Threads for SimThreads {
    fn spawn(&self, known: Arc<Simulated>, stack_bytes: usize, work: Box<dyn FnOnce()>) {
        let process = self.0.process().expect("a thread is started by a simulated process");
        let stack = DefaultStack::new(stack_bytes).expect("memory for a stack");
        let waiting = Rc::new(Cell::new(std::ptr::null::<Waiting>()));
        let own = waiting.clone();
        let coroutine = Coroutine::with_stack(stack, move |yielder: &Waiting, ()| {
            own.set(std::ptr::from_ref(yielder));
            work();
        });
        self.0.with(process, |process| process.threads.push(Thread { known, coroutine, waiting }));
    }

    fn current(&self) -> Option<Arc<Simulated>> {
        self.0.running.borrow().as_ref().map(|running| running.known.clone())
    }

    fn pause(&self, _: Option<Duration>, is_first: bool) {
        let waiting = self.0.running.borrow().as_ref().map(|running| running.waiting.get());
        let waiting = waiting.expect("a task waits where only a thread may");
        // SAFETY: the pointer was set by the coroutine that runs now, to what lies on its own stack for as long as it
        // runs; it runs until this call gives up its turn, and again when the call returns.
        #[expect(unsafe_code, reason = "a coroutine finds its own way out only by a pointer to what is on its stack")]
        unsafe {
            (*waiting).suspend(is_first);
        }
    }

    fn now(&self) -> Duration {
        self.0.now.get()
    }
}
