//! The data folder: topics and jobs of one process.
//!
//! ```text
//! <data>/.lock            held while a process owns the folder; job folders have one too
//! <data>/.id              its random id, once a job of it keeps its state elsewhere (--state)
//! <data>/topics/          the embedded log's topics
//! <data>/index/           indexes of their segments: made anew when deleted
//! <data>/jobs/<name>/     commands/ (the command log), checkpoints/ (manifests and state),
//!                         .receipt-seen (what the last run showed),
//!                         .data (with --state: the id of the data folder it belongs to)
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use qanat_coordinator::raft::{EVERYTHING, Member, Reach, folder_to_watch, look as look_at_log};
use qanat_coordinator_core::{Command, JobStatus};
use qanat_proto::ids::{Epoch, Generation};
use qanat_proto::job_choice::{Candidate, choose};
use qanat_proto::names::Name;
use qanat_proto::{Code, Error, Place, Result, limits};
use qanat_storage::checkpoint::CheckpointStore;
use qanat_storage::crash_safe;
use qanat_storage::env::watch::Watch;
use qanat_storage::env::{Env, File, OpenMode, thread};
use qanat_storage::log::{GroupCommit, IndexCache, Topics};
use qanat_storage::object::Objects;

use crate::history::{self, JobHistory};
use crate::receipt_seen;
use qanat_storage::small_file;

/// An owned data folder.
pub(crate) struct DataFolder {
    pub(crate) env: Env,
    pub(crate) root: PathBuf,
    pub(crate) topics: Arc<Topics>,
    _lock: Arc<dyn File>,
}

impl DataFolder {
    /// Creates what is missing and takes the lock.
    ///
    /// # Errors
    /// E0303 if another process owns the folder.
    pub(crate) fn open(env: &Env, root: &Path) -> Result<Self> {
        let lock = lock(env, root)?;
        let topics = Topics::open(env.clone(), topics_of(root), GroupCommit::spawn()?)?;
        let topics = Arc::new(topics.with_indexes(IndexCache::in_folder(env, root.join("index"))));
        Ok(Self { env: env.clone(), root: root.to_owned(), topics, _lock: lock })
    }

    /// A look at all of it.
    pub(crate) fn view(&self) -> DataView {
        DataView { env: self.env.clone(), root: self.root.clone(), state: None, group: None }
    }

    pub(crate) fn job_folder(&self, name: &Name) -> PathBuf {
        self.root.join("jobs").join(name.as_str())
    }

    /// Binds a state folder to this data folder, wherever either is moved: with another one the job's topics, late rows and dead letters would lie partly here and partly there.
    ///
    /// # Errors
    /// E0302 if the state belongs to another data folder; E0304 for a damaged id.
    pub(crate) fn bind(&self, job: &JobFolder) -> Result<()> {
        let own = self.root.join(".id");
        let id = match read_id(&self.env, &own)? {
            Some(id) => id,
            None => {
                let id = self.env.entropy.u128();
                write_id(&self.env, &own, id)?;
                id
            }
        };
        let bound = job.path.join(".data");
        match read_id(&self.env, &bound)? {
            Some(known) if known == id => Ok(()),
            Some(_) => Err(foreign(&job.path, &self.root)
                .hint("give --data the folder it was started with, wherever that lies now, or start anew with another --state")),
            None => write_id(&self.env, &bound, id),
        }
    }
}

fn foreign(state: &Path, root: &Path) -> Error {
    let message = format!("this state belongs to another data folder than `{}`", root.display());
    Error::new(Code::ForeignState, message).at(Place::Named(state.display().to_string()))
}

fn write_id(env: &Env, path: &Path, id: u128) -> Result<()> {
    crash_safe::write_new(env, path, &small_file::sealed(&format!("{id:032x}\n"))).map_err(Error::from)
}

fn read_id(env: &Env, path: &Path) -> Result<Option<u128>> {
    // Any more than an id is seen, and refused.
    const BYTES_MAX: u64 = 64;
    const DIGITS: usize = 32;
    let Some(bytes) = small_file::read(env, path, BYTES_MAX)? else { return Ok(None) };
    let line = small_file::unsealed(&bytes).and_then(|lines| lines.strip_suffix('\n'));
    line.filter(|digits| digits.len() == DIGITS).and_then(|digits| u128::from_str_radix(digits, 16).ok()).map(Some).ok_or_else(|| {
        Error::new(Code::CorruptLog, "the id of a data folder is damaged")
            .at(Place::Named(path.display().to_string()))
            .hint("if you are sure that this data folder and this state belong together, remove `.id` and `.data`: the next run binds them anew")
    })
}

/// The durable part of a job (or of the jobs of one script).
pub(crate) struct JobFolder {
    pub(crate) path: PathBuf,
    /// The group of one that decides about it.
    pub(crate) member: Arc<Member>,
    pub(crate) checkpoints: Arc<CheckpointStore>,
    /// Of its own: with `--state` two data folders may lead to one job folder.
    pub(crate) lock: Arc<dyn File>,
}

impl JobFolder {
    /// Opens or creates the folder and reads the command log.
    ///
    /// # Errors
    /// E0303 if another process owns the folder; E0304 for a damaged log, E0307 for one of another version.
    pub(crate) fn open(env: &Env, path: &Path) -> Result<Self> {
        let lock = lock(env, path)?;
        let member = Member::alone(env, path.join("commands"))?;
        let checkpoints = Arc::new(CheckpointStore::new(Objects::in_directory(env, &path.join("checkpoints"))?));
        // A manifest is written when its generation is open and the claim before it is durable. A log that
        // knows less has lost its end: to go on from there would write again what is committed. That it lost
        // no more than its last claim shows in the sinks, which the executor asks.
        for key in checkpoints.all_manifests()? {
            let (is_known, last, generation) = member.state(|state| {
                let job = state.job(key.job);
                // Withdrawn ones included.
                let last = job.map_or(Epoch(0), |job| job.highest_epoch());
                let is_known = job.is_some() || key.epoch == Epoch(0);
                (is_known, last, job.map_or(Generation(0), |job| job.generation))
            });
            if !is_known || key.epoch > last.next() || key.generation > generation {
                let message = format!(
                    "the command log ends with epoch {last} of generation {generation}, checkpoints go on to epoch {} of generation {}",
                    key.epoch, key.generation
                );
                return Err(Error::new(Code::CorruptLog, message)
                    .at(Place::Named(path.join("commands").display().to_string()))
                    .hint("bring it back from a copy; or give the job a new folder with --name or --state"));
            }
        }
        for job in receipt_seen::read(env, path)? {
            let is_new = member.state(|state| {
                state.job(job).is_some_and(|job| job.status == JobStatus::Finished && !job.acknowledged)
            });
            if is_new {
                let _ = member.propose(&Command::Acknowledge { job })?;
            }
        }
        receipt_seen::remove(env, path)?;
        Ok(Self { path: path.to_owned(), member: Arc::new(member), checkpoints, lock })
    }
}

/// A data folder looked at without owning it: another process may own it and go on. Nothing is created,
/// recovered or removed.
pub(crate) struct DataView {
    pub(crate) env: Env,
    root: PathBuf,
    /// In place of all job folders below the root.
    state: Option<PathBuf>,
    /// In place of all command logs of job folders: the one of a cluster's coordinator.
    group: Option<GroupLog>,
}

/// The command log of a group, as one of its members has it.
struct GroupLog {
    folder: PathBuf,
    /// Index behind the last entry that is decided.
    decided: Box<dyn Fn() -> u64 + Send + Sync>,
}

/// One run of a job, and where it is kept.
pub(crate) struct FoundJob {
    pub(crate) folder: PathBuf,
    pub(crate) history: JobHistory,
}

impl DataView {
    /// # Errors
    /// E0206 without such a folder.
    pub(crate) fn open(env: &Env, root: &Path, state: Option<&Path>) -> Result<Self> {
        for folder in std::iter::once(root).chain(state) {
            // A job's state may be kept alone, apart from any data folder.
            let needed = state.is_none() || Some(folder) == state;
            let failed = |e: std::io::Error| Error::io(format!("read `{}`", folder.display()), &e);
            if needed && !env.disk.exists(folder).map_err(failed)? {
                let message = format!("there is no folder `{}`", folder.display());
                return Err(Error::new(Code::PathNotFound, message)
                    .hint("`qanat run` makes it; name another one with --data, --state or QANAT_DATA"));
            }
        }
        Ok(Self { env: env.clone(), root: root.to_owned(), state: state.map(Path::to_owned), group: None })
    }

    /// What the jobs of a cluster hold: `storage` is the folder that all of its processes reach, `commands` the log of
    /// the coordinator that looks, `decided` the index behind the last entry that is.
    pub(crate) fn of_cluster(
        env: &Env,
        storage: &Path,
        commands: &Path,
        decided: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        let group = GroupLog { folder: commands.to_owned(), decided: Box::new(decided) };
        Self { env: env.clone(), root: storage.to_owned(), state: None, group: Some(group) }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The topics as they are now.
    ///
    /// # Errors
    /// E0302 if the state that is looked at belongs to another data folder: its rows are not in these topics.
    pub(crate) fn topics(&self) -> Result<Topics> {
        if let Some(state) = &self.state
            && let Some(bound) = read_id(&self.env, &state.join(".data"))?
            && read_id(&self.env, &self.root.join(".id"))? != Some(bound)
        {
            return Err(
                foreign(state, &self.root).hint("give --data the folder it was run with, wherever that lies now")
            );
        }
        Ok(Topics::open_read_only(self.env.clone(), topics_of(&self.root)))
    }

    /// All runs of all jobs, those of one folder in the order they were started.
    ///
    /// # Errors
    /// E0304 for a damaged command log, E0307 for one of another version.
    pub(crate) fn jobs(&self, reach: Reach) -> Result<Vec<FoundJob>> {
        let mut jobs = Vec::new();
        if let Some(group) = &self.group {
            let found = look(&self.env, &group.folder, reach, (group.decided)())?;
            let kept = found.into_iter().filter(|history| !history.job.dropped);
            return Ok(kept.map(|history| FoundJob { folder: self.root.clone(), history }).collect());
        }
        for folder in self.job_folders()? {
            let found = look(&self.env, &folder.join("commands"), reach, EVERYTHING)?;
            jobs.extend(found.into_iter().map(|history| FoundJob { folder: folder.clone(), history }));
        }
        Ok(jobs)
    }

    /// A job by its name, its id or the first digits of it: the newest run of a name, or the one whose id begins with
    /// `run`.
    ///
    /// # Errors
    /// E0309 if there is none, with the nearest name; E0501 if digits fit several.
    pub(crate) fn job(&self, wanted: &str, run: Option<&str>, reach: Reach) -> Result<FoundJob> {
        let jobs = self.jobs(reach)?;
        let candidates = jobs.iter().map(|FoundJob { history, .. }| Candidate {
            id: history.id,
            name: &history.name,
            rank: history.created_ms,
        });
        let place = || Place::Named(self.state.as_ref().unwrap_or(&self.root).display().to_string());
        let id = choose(wanted, run, candidates).map_err(|error| error.or_at(place))?;
        let found = jobs.into_iter().find(|job| job.history.id == id);
        found.ok_or_else(|| Error::internal("a job that was chosen is gone"))
    }

    /// A run as it stands now. Reads its own folder alone.
    ///
    /// # Errors
    /// E0309 if it is gone; those of a look.
    pub(crate) fn again(&self, found: &FoundJob) -> Result<FoundJob> {
        let (id, folder) = (found.history.id, &found.folder);
        let runs = look(&self.env, &folder.join("commands"), Reach::State, EVERYTHING)?;
        let run = runs.into_iter().find(|history| history.id == id);
        let gone = || Error::new(Code::UnknownJob, format!("job `{}` has no run `{id}` any more", found.history.name));
        run.map(|history| FoundJob { folder: folder.clone(), history }).ok_or_else(gone)
    }

    fn job_folders(&self) -> Result<Vec<PathBuf>> {
        if let Some(state) = &self.state {
            return Ok(vec![state.clone()]);
        }
        let folder = self.root.join("jobs");
        match self.env.disk.list(&folder) {
            Ok(entries) => Ok(entries.into_iter().filter(|e| e.is_dir).map(|e| e.path).collect()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(Error::io(format!("list `{}`", folder.display()), &e)),
        }
    }
}

impl FoundJob {
    /// Is told of every change of its command log.
    ///
    /// # Errors
    /// E0214 if the system watches no more folders.
    pub(crate) fn watch(&self, env: &Env) -> Result<Watch> {
        let log = folder_to_watch(env, &self.folder.join("commands"))?;
        Watch::start(log.iter().map(PathBuf::as_path)).map_err(|e| Error::io("watch the job", &e))
    }

    /// The manifests and state files of its folder.
    pub(crate) fn checkpoints(&self, env: &Env) -> Result<CheckpointStore> {
        Ok(CheckpointStore::new(Objects::in_directory(env, &self.folder.join("checkpoints"))?))
    }
}

/// Reads a command log whose owner may be writing to it.
fn look(env: &Env, commands: &Path, reach: Reach, end: u64) -> Result<Vec<JobHistory>> {
    const TRIES: usize = 4;
    let mut pause = Duration::from_millis(10);
    let mut tries = 0;
    let patience = env.clock.monotonic() + Duration::from_millis(limits::PROPOSAL_TIMEOUT_MS);
    loop {
        match look_at_log(env, commands, reach, end) {
            Ok(entries) => return history::replay(entries.unwrap_or_default()),
            // A look at bytes that are being written or removed may see them half; real damage stays.
            Err(e) if tries < TRIES && matches!(e.code(), Code::CorruptLog | Code::PathNotFound | Code::OffsetGone) => {
                tries += 1;
            }
            // Decided, and on its way to this disk.
            Err(e) if e.code() == Code::NoQuorum && env.clock.monotonic() < patience => {
                thread::rest(pause);
                pause *= 2;
            }
            Err(e) => return Err(e),
        }
    }
}

fn topics_of(root: &Path) -> PathBuf {
    root.join("topics")
}

pub(crate) fn lock(env: &Env, folder: &Path) -> Result<Arc<dyn File>> {
    make_dir(env, folder)?;
    let path = folder.join(".lock");
    let failed = |e: std::io::Error| Error::io(format!("open `{}`", path.display()), &e);
    let file = env.disk.open(&path, OpenMode::OpenOrCreate).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
            Err(Error::new(Code::DataFolderLocked, "another process owns this folder")
                .at(Place::Named(folder.display().to_string()))
                .hint("stop it, or use another folder with --data and --state"))
        }
        Err(e) => Err(failed(e)),
    }
}

/// Creates a folder durably.
pub(crate) fn make_dir(env: &Env, path: &Path) -> Result<()> {
    let failed = |e: std::io::Error| Error::io(format!("create folder `{}`", path.display()), &e);
    if env.disk.exists(path).map_err(failed)? {
        return Ok(());
    }
    env.disk.create_dir_all(path).map_err(failed)?;
    let mut parent = path.parent();
    while let Some(folder) = parent.filter(|folder| !folder.as_os_str().is_empty()) {
        env.disk.sync_dir(folder).map_err(failed)?;
        parent = folder.parent();
    }
    Ok(())
}
