//! Faults inside a process that runs: `shim/faults.c` is loaded before it and does what a small file says.
//!
//! Clocks, syncs and writes of a process are nobody's from outside. Whoever gives an order reads in the same file how
//! often it was carried out: a fault that nothing met has not happened.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// What a process can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The wall clock is off by so many milliseconds.
    ClockOffMs,
    /// So many of the next syncs fail.
    SyncsFail,
    /// A sync takes so many milliseconds more.
    SyncDelayMs,
    /// Not 0: there is no room below the folders of [`Shim::variables`].
    IsFull,
}

impl Order {
    fn field(self) -> usize {
        match self {
            Self::ClockOffMs => 0,
            Self::SyncsFail => 1,
            Self::SyncDelayMs => 2,
            Self::IsFull => 3,
        }
    }
}

/// Bytes of one number, and numbers of a file.
const NUMBER: usize = 8;
const FIELDS: usize = 8;

/// The shim, compiled, for all processes of a folder.
#[derive(Clone, Debug)]
pub struct Shim {
    library: PathBuf,
    folder: PathBuf,
}

impl Shim {
    /// Compiles it into `folder`, where the files of the processes are, too.
    ///
    /// # Errors
    /// If there is no C compiler.
    pub fn build(folder: &Path) -> Result<Self> {
        let library = folder.join("faults.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("shim/faults.c");
        let compiled =
            Command::new("cc").args(["-O2", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl").status();
        ensure!(compiled.context("start cc")?.success(), "cc cannot compile {}", source.display());
        Ok(Self { library, folder: folder.to_owned() })
    }

    /// What a process is told by, under its name.
    ///
    /// # Errors
    /// If its file cannot be made.
    pub fn control(&self, name: &str) -> Result<Control> {
        let path = self.folder.join(format!("{name}.faults"));
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.with_context(|| format!("open {}", path.display()))?;
        file.set_len((NUMBER * FIELDS) as u64).context("a control file")?;
        Ok(Control { file, path })
    }

    /// The environment of a process. `full` are the folders where its disk can be full.
    pub fn variables(&self, control: &Control, full: &[PathBuf]) -> Vec<(String, String)> {
        let full: Vec<String> = full.iter().map(|folder| folder.display().to_string()).collect();
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAULTS_CONTROL", control.path.display().to_string()),
            ("FAULTS_FULL", full.join(":")),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }
}

/// The file that one process has before its eyes.
#[derive(Debug)]
pub struct Control {
    file: File,
    path: PathBuf,
}

impl Control {
    /// From now on.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn order(&self, order: Order, value: i64) -> Result<()> {
        self.file.write_all_at(&value.to_ne_bytes(), (order.field() * NUMBER) as u64).context("give an order")
    }

    /// The disk is as it should be again. A clock stays as it is.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn calm(&self) -> Result<()> {
        [Order::SyncsFail, Order::SyncDelayMs, Order::IsFull].into_iter().try_for_each(|order| self.order(order, 0))
    }

    /// How often an order was carried out so far.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn met(&self, order: Order) -> Result<i64> {
        let mut bytes = [0; NUMBER];
        self.file.read_exact_at(&mut bytes, ((FIELDS / 2 + order.field()) * NUMBER) as u64).context("read a count")?;
        Ok(i64::from_ne_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a shell that writes and syncs, with orders given before.
    fn told(name: &str, orders: &[(Order, i64)], script: &str) -> Result<(bool, String, Control)> {
        let folder = std::env::temp_dir().canonicalize()?.join(format!("qanat-shim-{}-{name}", std::process::id()));
        std::fs::create_dir_all(folder.join("disk"))?;
        let shim = Shim::build(&folder)?;
        let control = shim.control("shell")?;
        orders.iter().try_for_each(|(order, value)| control.order(*order, *value))?;
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).current_dir(&folder).envs(shim.variables(&control, &[folder.join("disk")]));
        let ended = shell.output()?;
        std::fs::remove_dir_all(&folder)?;
        Ok((ended.status.success(), String::from_utf8_lossy(&ended.stdout).trim().to_owned(), control))
    }

    #[test]
    fn a_clock_is_off_by_what_was_said() -> Result<()> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs_f64();
        let (_, said, control) = told("clock", &[(Order::ClockOffMs, -3_600_500)], "date +%s.%N")?;
        let off = said.parse::<f64>()? - now;
        ensure!((-3_600.5..-3_590.0).contains(&off), "off by {off} s");
        ensure!(control.met(Order::ClockOffMs)? > 0, "nobody asked");
        Ok(())
    }

    #[test]
    fn as_many_syncs_fail_as_were_ordered() -> Result<()> {
        let script = "echo x > disk/a; sync disk/a; sync disk/a && echo kept";
        let (_, said, control) = told("sync", &[(Order::SyncsFail, 1), (Order::SyncDelayMs, 1)], script)?;
        ensure!(said == "kept" && control.met(Order::SyncsFail)? == 1, "{said}");
        ensure!(control.met(Order::SyncDelayMs)? == 2, "no delay");
        Ok(())
    }

    #[test]
    fn a_disk_is_full_where_it_was_said_and_nowhere_else() -> Result<()> {
        let (_, said, control) = told("full", &[(Order::IsFull, 1)], "echo x > free && cat free; echo x > disk/a")?;
        ensure!(said == "x" && control.met(Order::IsFull)? == 1, "{said}");
        Ok(())
    }
}
