//! One process of this machine that was started by somebody else, and its successors that are started here.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use qanat_proto::{Error, Place, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, fcntl_setfl, open};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::chaos::machine::Started;

/// A process that is signalled, and started again as it was.
pub(super) struct Process {
    pid: i32,
    /// Stands for this very process, whoever gets its number later.
    handle: OwnedFd,
    pub(super) started: Started,
    /// Where it writes, held while it is away: a pipe that nobody can write to any more ends for its reader.
    outputs: Option<[Option<OwnedFd>; 2]>,
    /// If it was started here, to be waited for.
    child: Option<Child>,
}

/// Started by `qanat dev`, a process ends with its parent. One that is started here has another parent, and is to end
/// with `dev` all the same.
const ENDS_WITH: [&str; 2] = ["--parent", "--until"];

impl Process {
    /// A process that runs.
    ///
    /// # Errors
    /// If it has ended, or may not be looked at or signalled.
    pub(super) fn of(pid: i32) -> Result<Self> {
        let gone = || Error::io(format!("find process {pid}"), &std::io::ErrorKind::NotFound.into());
        let handle = handle(pid)?;
        let started = Started::of(pid).ok_or_else(gone)?;
        let process = Self { pid, handle, started, outputs: None, child: None };
        // Read behind the handle: what was read is of the process that the handle stands for.
        if process.is_over() { Err(gone()) } else { Ok(process) }
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// # Errors
    /// If it has ended, or is not ours to signal.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        pidfd_send_signal(&self.handle, signal)
            .map_err(|e| Error::io(format!("signal process {}", self.pid), &e.into()))
    }

    /// Whether it has ended. One that its parent has not waited for yet has.
    pub(super) fn has_ended(&mut self) -> bool {
        let is_over = self.is_over();
        if let Some(child) = self.child.as_mut().filter(|_| is_over) {
            // How it ended says its own output.
            let _ = child.try_wait();
        }
        is_over
    }

    /// Waits for its end, which is under way.
    pub(super) fn until_over(&self) {
        const SECONDS_MAX: i64 = 5;
        self.poll(Timespec { tv_sec: SECONDS_MAX, tv_nsec: 0 });
    }

    fn is_over(&self) -> bool {
        self.poll(Timespec { tv_sec: 0, tv_nsec: 0 })
    }

    fn poll(&self, at_most: Timespec) -> bool {
        let mut waits = [PollFd::new(&self.handle, PollFlags::IN)];
        matches!(poll(&mut waits, Some(&at_most)), Ok(ready) if ready > 0)
    }

    /// Keeps open where it writes, for the one that is started in its place.
    pub(super) fn hold_outputs(&mut self) {
        let pid = self.pid;
        self.outputs = Some([1, 2].map(|number| output(pid, number)));
    }

    /// Starts it again as it was started: program, arguments, folder, environment, and where it writes. It outlives
    /// this process, and Ctrl-C does not reach it.
    ///
    /// # Errors
    /// If the system cannot.
    pub(super) fn start_again(&mut self) -> Result<()> {
        let outputs = self.outputs.take().unwrap_or_default();
        let [stdout, stderr] = outputs.map(|output| output.map_or_else(Stdio::null, Stdio::from));
        let started = &mut self.started;
        started.arguments = outlives(&started.arguments);
        let mut command = Command::new(&started.program);
        command.args(&started.arguments).current_dir(&started.folder);
        command.env_clear().envs(started.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).process_group(0);
        let failed = |e: std::io::Error| {
            Error::io("start a process again", &e).at(Place::Named(started.program.display().to_string()))
        };
        let child = command.spawn().map_err(failed)?;
        let pid = i32::try_from(child.id()).map_err(|_| Error::internal("a process id is too large"))?;
        self.has_ended();
        // Nobody else can have its number while it is not waited for.
        self.handle = handle(pid)?;
        (self.pid, self.child) = (pid, Some(child));
        Ok(())
    }
}

fn handle(pid: i32) -> Result<OwnedFd> {
    let number = Pid::from_raw(pid).ok_or_else(|| Error::internal("a process has no id"))?;
    pidfd_open(number, PidfdFlags::empty()).map_err(|e| Error::io(format!("look at process {pid}"), &e.into()))
}

/// A file, pipe or terminal that a process writes to, behind what is there. None: it cannot be had.
fn output(pid: i32, number: u32) -> Option<OwnedFd> {
    // A pipe without a reader would be waited for.
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let output = open(format!("/proc/{pid}/fd/{number}"), flags, Mode::empty()).ok()?;
    fcntl_setfl(&output, OFlags::APPEND).ok()?;
    Some(output)
}

/// The arguments of a process that ends with another one that is not its parent.
fn outlives(arguments: &[OsString]) -> Vec<OsString> {
    let [parent, until] = ENDS_WITH;
    let told = |argument: &OsString| match argument.to_str().and_then(|text| text.strip_prefix(parent)) {
        Some(rest) if rest.is_empty() || rest.starts_with('=') => OsString::from(format!("{until}{rest}")),
        _ => argument.clone(),
    };
    arguments.iter().map(told).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::Duration;

    use super::*;

    /// Waits for the end of a process, which is near.
    fn until_ended(process: &mut Process) {
        while !process.has_ended() {
            crossbeam::channel::after(Duration::from_millis(1)).recv().expect("time goes by");
        }
    }

    #[test]
    fn what_is_killed_is_started_again_and_writes_to_the_same_pipe() {
        // It stands still by itself: one that became another program just then could not be looked at.
        let script = "echo $QANAT_TEST_WORD $PWD; kill -STOP $$";
        let mut first = Command::new("sh")
            .args(["-c", script])
            .env("QANAT_TEST_WORD", "hello")
            .current_dir("/")
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut stdout = first.stdout.take().expect("a pipe");
        let mut line = [0; 8];
        stdout.read_exact(&mut line).expect("a line");
        let mut process = Process::of(i32::try_from(first.id()).expect("a pid")).expect("it runs");
        assert!(!process.has_ended());
        process.hold_outputs();
        process.signal(Signal::KILL).expect("it is there");
        until_ended(&mut process);
        assert!(process.signal(Signal::KILL).is_err() || first.wait().is_ok());
        process.start_again().expect("starts");
        stdout.read_exact(&mut line).expect("a line");
        assert_eq!(&line, b"hello /\n");
        process.signal(Signal::KILL).expect("it is there");
        until_ended(&mut process);
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).expect("its end");
        assert_eq!(rest, "");
    }

    #[test]
    fn a_child_of_dev_ends_with_it_under_another_parent() {
        let words = ["--parent", "7", "--parent=7", "--parents", "x"].map(OsString::from);
        assert_eq!(outlives(&words), ["--until", "7", "--until=7", "--parents", "x"].map(OsString::from));
    }
}
