//! One `qanat` process, from its start to its end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How often a condition is looked at.
pub const POLL: Duration = Duration::from_millis(2);

/// Starts processes of one binary in one folder.
#[derive(Clone, Debug)]
pub struct Qanat {
    pub binary: PathBuf,
    pub folder: PathBuf,
}

/// A process that may run.
#[derive(Debug)]
pub struct Life {
    child: Child,
    started: Instant,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// A process that has ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    pub after: Duration,
}

impl Ended {
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// The number of the signal that ended it.
    pub fn signal(&self) -> Option<i32> {
        std::os::unix::process::ExitStatusExt::signal(&self.status)
    }

    /// The one JSON object of `-o json`.
    ///
    /// # Errors
    /// If stdout is something else.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("stdout is {:?}; stderr {}", self.stdout, self.stderr))
    }
}

impl Qanat {
    /// A new, empty folder under the system's temporary one, with the binary pinned in it.
    ///
    /// # Errors
    /// If there is no binary or no room.
    pub fn in_new_folder(name: &str, binary: &Path) -> Result<Self> {
        // As processes find it by their open files.
        let temporary = std::env::temp_dir().canonicalize().context("find the temporary folder")?;
        let folder = temporary.join(format!("qanat-chaos-{}-{name}", std::process::id()));
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| format!("empty {}", folder.display()))?;
        }
        std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        Ok(Self { binary: super::binary::pin(binary, &folder)?, folder })
    }

    /// Writes a file into the folder.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        std::fs::write(self.folder.join(name), text).with_context(|| format!("write {name}"))
    }

    /// The command, with its place and nothing from outside that would change it.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).current_dir(&self.folder);
        command.env_remove("QANAT_FAILPOINT").env_remove("QANAT_DATA").env_remove("QANAT_CLUSTER");
        command
    }

    /// Starts it.
    ///
    /// # Errors
    /// If the system cannot.
    pub fn start(&self, arguments: &[&str]) -> Result<Life> {
        self.spawn(self.command(arguments))
    }

    /// Starts a command with its output in files of the folder.
    ///
    /// # Errors
    /// If the system cannot.
    pub fn spawn(&self, mut command: Command) -> Result<Life> {
        static LIVES: AtomicU64 = AtomicU64::new(0);
        // Several lives may run at once.
        let number = LIVES.fetch_add(1, Ordering::Relaxed);
        let stdout = self.folder.join(format!(".stdout-{number}"));
        let stderr = self.folder.join(format!(".stderr-{number}"));
        command.stdin(Stdio::null()).stdout(File::create(&stdout)?).stderr(File::create(&stderr)?);
        let child = command.spawn().with_context(|| format!("start {}", self.binary.display()))?;
        Ok(Life { child, started: Instant::now(), stdout, stderr })
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// If it cannot start or does not end within `deadline`.
    pub fn run(&self, arguments: &[&str], deadline: Duration) -> Result<Ended> {
        self.start(arguments)?.wait(deadline)
    }

    /// As [`Qanat::run`], by a command that runs another one and stands in front of it; none if empty.
    ///
    /// # Errors
    /// If it cannot start or does not end within `deadline`.
    pub fn run_behind(&self, front: &[String], arguments: &[&str], deadline: Duration) -> Result<Ended> {
        let Some((program, more)) = front.split_first() else { return self.run(arguments, deadline) };
        let own = self.command(arguments);
        let mut command = Command::new(program);
        command.args(more).arg(&self.binary).args(arguments).current_dir(&self.folder);
        for (name, value) in own.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        self.spawn(command)?.wait(deadline)
    }

    /// Removes the folder.
    pub fn clean_up(&self) {
        // A folder that stays behind harms nobody.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Life {
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait().context("look at the process")?.is_none())
    }

    /// SIGKILL: nothing is flushed, nothing unwound.
    ///
    /// # Errors
    /// If the system cannot.
    pub fn kill(mut self) -> Result<Ended> {
        // It may have ended by itself a moment ago; then its own status counts.
        let _ = self.child.kill();
        self.collect()
    }

    /// SIGINT, as Ctrl-C sends it.
    ///
    /// # Errors
    /// If the system cannot.
    pub fn interrupt(&self) -> Result<()> {
        let id = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        let id = id.context("the process has no id")?;
        rustix::process::kill_process(id, rustix::process::Signal::INT).context("send SIGINT")
    }

    /// Waits until `condition` holds. False if the process ended first.
    ///
    /// # Errors
    /// If neither happens within `deadline`; the process is killed then.
    pub fn until(&mut self, deadline: Duration, mut condition: impl FnMut() -> Result<bool>) -> Result<bool> {
        let begun = Instant::now();
        loop {
            if condition()? {
                return Ok(true);
            }
            if !self.is_running()? {
                return Ok(false);
            }
            if begun.elapsed() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                bail!("nothing happened in {deadline:?}; stderr: {}", self.stderr()?);
            }
            std::thread::sleep(POLL);
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it does not end within `deadline`; it is killed then.
    pub fn wait(mut self, deadline: Duration) -> Result<Ended> {
        self.until(deadline, || Ok(false))?;
        self.collect()
    }

    fn stderr(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(&self.stderr)?).into_owned())
    }

    fn collect(mut self) -> Result<Ended> {
        let status = self.child.wait().context("wait for the process")?;
        let after = self.started.elapsed();
        let stdout = String::from_utf8_lossy(&std::fs::read(&self.stdout)?).into_owned();
        let stderr = self.stderr()?;
        let _ = std::fs::remove_file(&self.stdout);
        let _ = std::fs::remove_file(&self.stderr);
        Ok(Ended { status, stdout, stderr, after })
    }
}
