//! Running the binary, with a deadline.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::Value;

/// Longer than any test run takes, on the slowest machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// How a process ended.
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) aborted: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// One run of the binary in `folder`.
pub(crate) struct Invocation<'a> {
    folder: &'a Path,
    arguments: Vec<String>,
    failpoint: Option<String>,
    input: Option<&'a str>,
    variables: Vec<(&'a str, &'a str)>,
}

impl<'a> Invocation<'a> {
    pub(crate) fn new<S: Into<String>>(folder: &'a Path, arguments: impl IntoIterator<Item = S>) -> Self {
        let arguments = arguments.into_iter().map(Into::into).collect();
        Self { folder, arguments, failpoint: None, input: None, variables: Vec::new() }
    }

    /// `qanat run` of a script in the folder, with its data in the folder too.
    pub(crate) fn job(folder: &'a Path, script: &str, parallelism: u32, settings: &[(String, String)]) -> Self {
        let parallelism = parallelism.to_string();
        let fixed = ["-o", "json", "run", script, "--data", "data", "--parallelism", &parallelism];
        let mut invocation = Self::new(folder, fixed);
        for (key, value) in settings {
            invocation.arguments.extend(["--set".to_owned(), format!("{key}={value}")]);
        }
        invocation
    }

    pub(crate) fn failpoint(mut self, failpoint: Option<&str>) -> Self {
        self.failpoint = failpoint.map(str::to_owned);
        self
    }

    /// With this in its environment.
    pub(crate) fn variable(mut self, name: &'a str, value: &'a str) -> Self {
        self.variables.push((name, value));
        self
    }

    /// A file of the folder that is its standard input.
    pub(crate) fn input(mut self, name: &'a str) -> Self {
        self.input = Some(name);
        self
    }

    /// Runs it to its end; a process that does not end in time is killed, and that is an error.
    pub(crate) fn run(&self) -> Result<Outcome, String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qanat"));
        command.args(&self.arguments).current_dir(self.folder).env_remove("QANAT_DATA").env_remove("QANAT_LOG");
        command.env_remove("QANAT_CLUSTER").envs(self.variables.iter().copied());
        match &self.failpoint {
            Some(failpoint) => command.env("QANAT_FAILPOINT", failpoint),
            None => command.env_remove("QANAT_FAILPOINT"),
        };
        let input = match self.input {
            Some(name) => File::open(self.folder.join(name)).map_err(|e| e.to_string())?.into(),
            None => Stdio::null(),
        };
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| format!("cannot start the binary: {e}"))?;
        let (sender, receiver) = channel();
        for (name, pipe) in [
            ("stdout", child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>)),
            ("stderr", child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>)),
        ] {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                if let Some(mut pipe) = pipe {
                    let _ = pipe.read_to_end(&mut bytes);
                }
                let _ = sender.send((name, String::from_utf8_lossy(&bytes).into_owned()));
            });
        }
        let (mut stdout, mut stderr) = (String::new(), String::new());
        for _ in 0..2 {
            match receiver.recv_timeout(DEADLINE) {
                Ok(("stdout", text)) => stdout = text,
                Ok((_, text)) => stderr = text,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!("`qanat {}` did not end within {DEADLINE:?}", self.arguments.join(" ")));
                }
            }
        }
        let status = child.wait().map_err(|e| e.to_string())?;
        Ok(Outcome { code: status.code(), aborted: status.signal().is_some(), stdout, stderr })
    }
}

impl Outcome {
    /// The object that a command with `-o json` prints.
    pub(crate) fn json(&self) -> Result<Value, String> {
        serde_json::from_str(self.stdout.trim()).map_err(|e| format!("stdout is not JSON ({e}): {}", self.describe()))
    }

    /// The error that a command with `-o json` prints.
    pub(crate) fn error(&self) -> Option<Value> {
        let line = self.stderr.lines().rev().find(|line| line.starts_with("{\"error\""))?;
        serde_json::from_str::<Value>(line).ok()?.get("error").cloned()
    }

    pub(crate) fn describe(&self) -> String {
        let tail: Vec<&str> = self.stderr.lines().rev().take(8).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        format!(
            "exit {:?}, aborted {}, stdout `{}`, stderr `{}`",
            self.code,
            self.aborted,
            self.stdout.trim(),
            tail.join("\n")
        )
    }
}
