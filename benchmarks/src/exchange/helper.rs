//! Another process of this program, which is told lines and answers with lines.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use qanat_proto::{Error, Result};

/// Ends with its owner.
pub(super) struct Helper {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn failed(error: &std::io::Error) -> Error {
    Error::io("talk to another process of the benchmark", error)
}

impl Helper {
    /// Starts this program with one argument.
    pub(super) fn start(argument: &str) -> Result<Self> {
        let program = std::env::current_exe().map_err(|e| failed(&e))?;
        let mut command = Command::new(program);
        command.arg(argument).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|e| failed(&e))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::internal("another process of the benchmark has no pipes"));
        };
        Ok(Self { child, stdin, stdout: BufReader::new(stdout) })
    }

    /// The system's id of the process.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn tell(&mut self, text: &str) -> Result<()> {
        writeln!(self.stdin, "{text}").and_then(|()| self.stdin.flush()).map_err(|e| failed(&e))
    }

    /// The next line.
    ///
    /// # Errors
    /// E0503 if the process has ended.
    pub(super) fn hear(&mut self) -> Result<String> {
        let mut text = String::new();
        self.stdout.read_line(&mut text).map_err(|e| failed(&e))?;
        if text.is_empty() {
            return Err(Error::internal("another process of the benchmark has ended"));
        }
        Ok(text.trim_end().to_owned())
    }
}
