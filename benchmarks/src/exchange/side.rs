//! One contestant with processes of its own: an allocator that another one's messages have warmed or spread costs
//! bare Flight from half as much to twice as much.

use std::io::{BufRead, Write};
use std::time::Duration;

use qanat_proto::{Error, Result};
use qanat_storage::env::Env;

use super::batches;
use super::helper::Helper;
use super::sending::{Load, Peer, Run};

/// The argument that makes this program a sending process, with its own receiving one.
pub const SENDER: &str = "sender";

/// What a sending process is asked for: the engine's exchange with a load, or bare Flight.
#[derive(Clone, Copy, Debug)]
pub enum Contestant {
    Engine(Load),
    Bare,
}

/// A sending process.
pub struct Side(Helper);

impl Side {
    /// Starts one.
    ///
    /// # Errors
    /// What keeps it from starting.
    pub fn start() -> Result<Self> {
        Helper::start(SENDER).map(Self)
    }

    /// One run.
    ///
    /// # Errors
    /// What goes wrong in it, which its process has written to its standard error.
    pub fn run(&mut self, contestant: Contestant) -> Result<Run> {
        let asked = match contestant {
            Contestant::Bare => "bare".to_owned(),
            Contestant::Engine(Load::Forward) => "forward".to_owned(),
            Contestant::Engine(Load::Shuffle(parallelism)) => parallelism.to_string(),
        };
        self.0.tell(&asked)?;
        let told = self.0.hear()?;
        let words: Vec<&str> = told.split_whitespace().collect();
        let nanos = |index: usize| words.get(index).and_then(|word| word.parse().ok()).map(Duration::from_nanos);
        match (nanos(0), nanos(1), words.get(2).and_then(|word| word.parse().ok())) {
            (Some(took), Some(processor), Some(rows_per_batch)) => Ok(Run { took, processor, rows_per_batch }),
            _ => Err(Error::internal(format!("a sending process says `{told}`"))),
        }
    }
}

/// The sending process: sends `count` of `different` batches each time it is asked, until nobody asks.
///
/// # Errors
/// What goes wrong in a run.
pub fn send(env: &Env, different: usize, count: usize) -> Result<()> {
    let failed = |e: std::io::Error| Error::io("talk to the measuring process", &e);
    let mut peer = Peer::start(env, batches(different)?)?;
    for asked in std::io::stdin().lock().lines() {
        let asked = asked.map_err(failed)?;
        let run = match asked.as_str() {
            "bare" => peer.bare(count)?,
            "forward" => peer.ours(Load::Forward, count)?,
            parallelism => {
                let parallelism = parallelism.parse().map_err(|_| Error::internal(format!("asked for `{asked}`")))?;
                peer.ours(Load::Shuffle(parallelism), count)?
            }
        };
        let mut stdout = std::io::stdout().lock();
        let told = format!("{} {} {}", run.took.as_nanos(), run.processor.as_nanos(), run.rows_per_batch);
        writeln!(stdout, "{told}").and_then(|()| stdout.flush()).map_err(failed)?;
    }
    Ok(())
}
