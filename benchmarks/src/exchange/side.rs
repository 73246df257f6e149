//! One contestant with processes of its own: an allocator that another one's messages have warmed or spread costs
//! bare Flight from half as much to twice as much.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use qanat_proto::{Error, Result};
use qanat_storage::env::Env;

use super::batches;
use super::sending::{Load, Peer, Run, line};

/// The argument that makes this program a sending process, with its own receiving one.
pub const SENDER: &str = "sender";

/// What a sending process is asked for: the engine's exchange with a load, or bare Flight.
#[derive(Clone, Copy, Debug)]
pub enum Contestant {
    Engine(Load),
    Bare,
}

/// A sending process.
pub struct Side {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Drop for Side {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn failed(error: &std::io::Error) -> Error {
    Error::io("talk to a sending process", error)
}

impl Side {
    /// Starts one.
    ///
    /// # Errors
    /// What keeps it from starting.
    pub fn start() -> Result<Self> {
        let program = std::env::current_exe().map_err(|e| failed(&e))?;
        let mut command = Command::new(program);
        command.arg(SENDER).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|e| failed(&e))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::internal("a sending process has no pipes"));
        };
        Ok(Self { child, stdin, stdout: BufReader::new(stdout) })
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
        writeln!(self.stdin, "{asked}").and_then(|()| self.stdin.flush()).map_err(|e| failed(&e))?;
        let told = line(&mut self.stdout)?;
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
    let mut peer = Peer::start(env, batches(different)?)?;
    for asked in std::io::stdin().lock().lines() {
        let asked = asked.map_err(|e| failed(&e))?;
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
        writeln!(stdout, "{told}").and_then(|()| stdout.flush()).map_err(|e| failed(&e))?;
    }
    Ok(())
}
