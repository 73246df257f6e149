//! The processes that `qanat dev` starts. They end with it, and whichever ends before is told of.

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::Duration;

use crossbeam::channel::{Receiver, bounded};
use qanat_proto::{Error, Result};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::observe::ANNOUNCEMENT;
use crate::output::{self, printable};

/// How long all processes may take to serve.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// A longer line is passed on in parts.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// A process as `dev` tells of it.
#[derive(Clone, Serialize)]
pub(super) struct ToldProcess {
    role: &'static str,
    id: String,
    pid: u32,
    /// Where its metrics are, until it is started again.
    metrics: String,
    /// Starts it again on its folders.
    command: Vec<String>,
}

/// All of them.
pub(super) struct Family {
    program: String,
    processes: Vec<Process>,
    /// Each process says once that it has ended.
    ends: UnboundedReceiver<End>,
    ending: UnboundedSender<End>,
}

struct Process {
    told: ToldProcess,
    child: Child,
    announced: Receiver<String>,
}

/// What was heard last of a process that has closed its standard error, as it does when it ends.
#[derive(Default)]
struct End {
    /// Its place among the processes.
    index: usize,
    /// The error that it ended with.
    error: Option<Error>,
    /// The last line that was no such error.
    line: String,
}

impl Drop for Family {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.child.kill();
        }
        for process in &mut self.processes {
            let _ = process.child.wait();
        }
    }
}

impl Family {
    pub(super) fn new() -> Result<Self> {
        let program = std::env::current_exe().map_err(|e| Error::io("find this program", &e))?;
        let (ending, ends) = unbounded_channel();
        Ok(Self { program: program.display().to_string(), processes: Vec::new(), ends, ending })
    }

    /// Starts a process; `once` are arguments for this start alone.
    pub(super) fn spawn(
        &mut self,
        role: &'static str,
        id: String,
        mut arguments: Vec<String>,
        once: &[&str],
    ) -> Result<()> {
        arguments.extend(["--metrics", "127.0.0.1:0"].map(str::to_owned));
        let mut command = Command::new(&self.program);
        // Not even a parent that is killed leaves them behind.
        let parent = std::process::id().to_string();
        command
            .args(&arguments)
            .args(once)
            // Its error is read here.
            .args(["--output", "json", "--parent", &parent])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| Error::io("start a process", &e))?;
        let announced = announced(child.stdout.take());
        if let Some(stderr) = child.stderr.take() {
            let (ending, index) = (self.ending.clone(), self.processes.len());
            std::thread::spawn(move || {
                let (error, line) = pass_on(stderr);
                // Nobody waits for it when `dev` ends first.
                let _ = ending.send(End { index, error, line });
            });
        }
        let command = [vec![self.program.clone()], arguments].concat();
        let told = ToldProcess { role, id, pid: child.id(), metrics: String::new(), command };
        self.processes.push(Process { told, child, announced });
        Ok(())
    }

    /// Returns once a process has ended, with its error.
    pub(super) async fn fails(&mut self) -> Error {
        let end = self.next_end().await;
        let ended = self.ended(&end);
        output::note(&ended);
        end.error
            .unwrap_or_else(|| Error::internal(format!("{ended}, before it served")).hint("what it said stands above"))
    }

    /// Waits until all have said where their metrics are, which they do before they serve.
    ///
    /// # Errors
    /// That of a process that has ended.
    pub(super) fn have_announced(&mut self, runtime: &Runtime) -> Result<()> {
        for index in 0..self.processes.len() {
            let Some(process) = self.processes.get_mut(index) else { continue };
            match process.announced.recv_timeout(PATIENCE) {
                Ok(address) => process.told.metrics = address,
                Err(_) => return Err(runtime.block_on(self.fails())),
            }
        }
        Ok(())
    }

    pub(super) fn told(&self) -> Vec<ToldProcess> {
        self.processes.iter().map(|process| process.told.clone()).collect()
    }

    /// Tells of each process that ends, for ever.
    pub(super) async fn tell_of_ends(&mut self) -> Infallible {
        loop {
            let end = self.next_end().await;
            let last = match &end.error {
                Some(error) => error.to_string(),
                None => end.line.clone(),
            };
            let ended = self.ended(&end);
            output::note(&if last.is_empty() { ended } else { format!("{ended}: {}", printable(&last)) });
        }
    }

    async fn next_end(&mut self) -> End {
        match self.ends.recv().await {
            Some(end) => end,
            // This one holds a sender itself.
            None => std::future::pending().await,
        }
    }

    /// Which process ended, and how.
    fn ended(&mut self, end: &End) -> String {
        let Some(process) = self.processes.get_mut(end.index) else { return String::new() };
        let status = process.child.wait().map_or_else(|e| e.to_string(), |status| status.to_string());
        format!("{} {} has ended ({status})", process.told.role, process.told.id)
    }
}

/// Keeps a pipe empty, so that nobody ever waits for its reader. Gives where the process says that its metrics are.
fn announced(stdout: Option<ChildStdout>) -> Receiver<String> {
    let (found, announced) = bounded(1);
    if let Some(stdout) = stdout {
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let address = line.as_ref().ok().and_then(|line| line.strip_prefix(ANNOUNCEMENT));
                if let Some(address) = address {
                    let _ = found.try_send(format!("http://{address}"));
                }
            }
        });
    }
    announced
}

/// Passes on what a process says, until it ends; but its error, which is returned, with the last line of the rest.
fn pass_on(stderr: ChildStderr) -> (Option<Error>, String) {
    let mut reader = BufReader::new(stderr);
    let (mut error, mut last) = (None, String::new());
    loop {
        let mut line = Vec::new();
        // An error ends it like the end does: the process is asked for the rest.
        match (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return (error, last),
            Ok(_) => {}
        }
        if let Some(found) = error_in(&line) {
            error = Some(found);
            continue;
        }
        let text = String::from_utf8_lossy(&line);
        if !text.trim().is_empty() {
            text.trim().clone_into(&mut last);
        }
        let _ = std::io::stderr().lock().write_all(&line);
    }
}

/// The error that a process prints as JSON before it ends.
fn error_in(line: &[u8]) -> Option<Error> {
    #[derive(Deserialize)]
    struct Printed {
        error: Error,
    }
    let is_one = line.starts_with(br#"{"error":"#);
    is_one.then(|| serde_json::from_slice::<Printed>(line).ok().map(|printed| printed.error)).flatten()
}

#[cfg(test)]
mod tests {
    use qanat_proto::{Code, Place};

    use super::*;

    #[test]
    fn an_error_comes_whole_out_of_the_line_that_a_process_prints() {
        let error =
            Error::new(Code::PathNotFound, "open a files root").at(Place::Named("/none".into())).hint("make it");
        let line = format!("{}\n", serde_json::json!({ "error": error }));
        assert_eq!(error_in(line.as_bytes()), Some(error));
        for log in
            [&br#"{"timestamp":"t","error":{"code":"E0206","message":"m"}}"#[..], br#"{"error":"text"}"#, b"\xff"]
        {
            assert_eq!(error_in(log), None);
        }
    }
}
