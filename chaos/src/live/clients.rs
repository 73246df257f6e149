//! Clients that ask meanwhile what the parallelism of the job is to be, and now and then change it: some order of all
//! calls, those of the operator among them, must explain every answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use qanat_client::history::History;
use qanat_storage::env::sim::Random;
use serde_json::Value;

use super::console::{Console, insist};
use super::operator::is_over;
use crate::oracle::Violation;

const CLIENTS: u64 = 2;
/// Between two calls of one client, in milliseconds: each is a process, and takes its share of the machine.
const PAUSE_MS: (u64, u64) = (300, 1_500);
/// One call in so many is a change, which costs the job a generation.
const WRITES_ONE_IN: u64 = 25;
/// What they change it to, at most.
const PARALLELISM_MAX: u64 = 6;

/// The clients of one job.
pub struct Clients {
    register: Register,
    initial: u32,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// The parallelism that a job is to have, with all that was asked of it.
#[derive(Clone)]
struct Register {
    job: Arc<str>,
    console: Console,
    history: Arc<History>,
}

impl Clients {
    /// Clients of a job that was submitted with this parallelism.
    pub fn start(console: Console, job: &str, initial: u32, seed: u64) -> Self {
        let register = Register { job: job.into(), console, history: Arc::default() };
        let is_over = Arc::<AtomicBool>::default();
        let threads = (0..CLIENTS).map(|number| {
            let (register, is_over) = (register.clone(), is_over.clone());
            let random = Random::new(seed.wrapping_mul(31).wrapping_add(number));
            std::thread::spawn(move || {
                while !is_over.load(Ordering::Acquire) {
                    std::thread::sleep(Duration::from_millis(random.between(PAUSE_MS.0, PAUSE_MS.1)));
                    match random.once_in(WRITES_ONE_IN) {
                        // A refusal, or no answer, is what histories are for.
                        true => drop(register.write(random.between(1, PARALLELISM_MAX))),
                        false => register.read(),
                    }
                }
            })
        });
        let threads = threads.collect();
        Self { register, initial, is_over, threads }
    }

    /// An operator has it changed. False if the job has ended before.
    ///
    /// # Errors
    /// If the cluster does not serve.
    pub fn rescale(&self, parallelism: u64) -> Result<bool> {
        match insist(|| self.register.write(parallelism), is_over) {
            Err(error) if is_over(&format!("{error:#}")) => Ok(false),
            done => done.map(|_| true),
        }
    }

    /// Waits for the last answers. How many there were, and the first that nothing explains.
    pub fn finish(self) -> (u64, Option<Violation>) {
        self.is_over.store(true, Ordering::Release);
        let panics = self.threads.into_iter().filter_map(|thread| thread.join().err()).count();
        let history = &self.register.history;
        let wrong = history.violation(self.initial).or_else(|| (panics > 0).then(|| "a client panicked".to_owned()));
        (history.answers() as u64, wrong)
    }
}

impl Register {
    /// Asks once.
    fn write(&self, parallelism: u64) -> Result<Value> {
        let text = parallelism.to_string();
        let call = self.history.writes(u32::try_from(parallelism).unwrap_or(u32::MAX));
        let told = self.console.ask(&["job", "rescale", &self.job, "--parallelism", &text]);
        match &told {
            Ok(_) => self.history.written(call),
            Err(_) => self.history.lost(call),
        }
        told
    }

    fn read(&self) {
        let call = self.history.reads();
        let told = self.console.ask(&["job", "describe", &self.job]);
        // Said only if it is not what the job has.
        let number = |told: &Value, name: &str| told[name].as_u64().and_then(|number| u32::try_from(number).ok());
        let value =
            told.ok().and_then(|told| number(&told, "parallelism_wanted").or_else(|| number(&told, "parallelism")));
        match value {
            Some(value) => self.history.has_read(call, value),
            None => self.history.lost(call),
        }
    }
}
