//! The folder of topics: create, find, list, describe, delete.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use qanat_proto::error::{Code, Error, Place, Result, nearest};
use qanat_proto::names::Name;

use super::group::GroupCommit;
use super::index_cache::IndexCache;
use super::partition::{Access, LogOptions};
use super::segment::parse_sequence;
use super::staging::STAGED_FOLDER;
use super::topic::{
    Described, PARTITIONS_MAX, TOPIC_FILE, Topic, TopicDescription, TopicSpec, goes_on, partition_folder, rows_folder,
};
use super::{Setup, document, lock};
use crate::crash_safe;
use crate::env::{Entry, Env, File, OpenMode, thread};

/// The description of a topic whose deletion began.
const DELETED_FILE: &str = ".deleted";
/// Beside the topics: see [`Topics::creation_lock`].
const CREATION_LOCK: &str = ".creating";
/// Longer than any creation takes.
const CREATION_PATIENCE: Duration = Duration::from_secs(30);

/// All topics of a data folder. Cheap to share behind an `Arc`; opening the data folder (and its lock)
/// is the caller's business.
pub struct Topics {
    folder: PathBuf,
    setup: Setup,
    open: Mutex<BTreeMap<Name, Arc<Topic>>>,
}

impl Topics {
    /// Opens the folder, creating it if need be. Nobody else may write to it.
    pub fn open(env: Env, folder: impl Into<PathBuf>, commit: GroupCommit) -> Result<Self> {
        Self::open_with(env, folder, commit, LogOptions::default())
    }

    pub fn open_with(env: Env, folder: impl Into<PathBuf>, commit: GroupCommit, options: LogOptions) -> Result<Self> {
        let folder = folder.into();
        crash_safe::create_folder(env.disk.as_ref(), &folder)?;
        let setup = Setup { env, options, commit, access: Access::Write, indexes: IndexCache::none() };
        Ok(Self { folder, setup, open: Mutex::default() })
    }

    /// Keeps the indexes of sealed segments there.
    #[must_use]
    pub fn with_indexes(mut self, indexes: IndexCache) -> Self {
        self.setup.indexes = indexes;
        self
    }

    /// Opens the folder for looking only: nothing is created, recovered or removed. Shows what was
    /// whole when each partition was first used.
    pub fn open_read_only(env: Env, folder: impl Into<PathBuf>) -> Self {
        let (options, commit) = (LogOptions::default(), GroupCommit::inline());
        let setup = Setup { env, options, commit, access: Access::Read, indexes: IndexCache::none() };
        Self { folder: folder.into(), setup, open: Mutex::default() }
    }

    /// Opens the folder in one of several processes that share it: topics are made and rows are staged here, and
    /// appended once this process owns a partition ([`Topic::commit_owned`]).
    pub fn open_shared(env: Env, folder: impl Into<PathBuf>, commit: GroupCommit) -> Result<Self> {
        Self::open_shared_with(env, folder, commit, LogOptions::default())
    }

    /// [`Topics::open_shared`] with other sizes of segments.
    pub fn open_shared_with(
        env: Env,
        folder: impl Into<PathBuf>,
        commit: GroupCommit,
        options: LogOptions,
    ) -> Result<Self> {
        let folder = folder.into();
        crash_safe::create_folder(env.disk.as_ref(), &folder)?;
        let setup = Setup { env, options, commit, access: Access::Shared, indexes: IndexCache::none() };
        Ok(Self { folder, setup, open: Mutex::default() })
    }

    /// Creates a topic. A crash leaves all of it or none.
    ///
    /// # Errors
    /// E0501 if it exists, or its number of partitions is out of range.
    pub fn create(&self, name: &Name, spec: TopicSpec) -> Result<Arc<Topic>> {
        let _creating = self.creation_lock()?;
        self.create_locked(name, spec, self.setup.env.entropy.u64().max(1))
    }

    /// The same, by whoever holds the lock.
    pub(super) fn create_locked(&self, name: &Name, spec: TopicSpec, id: u64) -> Result<Arc<Topic>> {
        if self.setup.access == Access::Read {
            return Err(Error::new(Code::Usage, "the topics are open for reading only"));
        }
        if spec.partitions == 0 || spec.partitions > PARTITIONS_MAX {
            return Err(Error::new(
                Code::Usage,
                format!("a topic has 1 to {PARTITIONS_MAX} partitions, not {}", spec.partitions),
            ));
        }
        let mut open = lock(&self.open);
        let disk = self.setup.env.disk.as_ref();
        let folder = self.folder.join(name.as_str());
        let exists = || Error::new(Code::Usage, format!("topic `{name}` exists already"));
        if self.describes_topic(&folder)? {
            return Err(exists());
        }
        // What a crash or a half-finished delete left under this name is nobody's; rows of a topic whose
        // description is lost are somebody's.
        if !self.exists(&folder.join(DELETED_FILE))? && self.holds_segments(&folder)? {
            let message = format!("there are rows in {} and no description of the topic", folder.display());
            return Err(Error::new(Code::CorruptLog, message)
                .at(Place::Named(folder.join(TOPIC_FILE).display().to_string()))
                .hint(
                    "restore the file from a copy, or remove the folder and fill the topic again; nothing was changed",
                ));
        }
        remove_contents(&self.setup.env, &folder)?;
        for index in 0..spec.partitions {
            crash_safe::create_folder(disk, &partition_folder(&rows_folder(&folder, id), index).join(STAGED_FOLDER))?;
        }
        let TopicSpec { partitions, retention } = spec;
        let described = Described { partitions, retention, id };
        crash_safe::write_new(&self.setup.env, &folder.join(TOPIC_FILE), &document::to_bytes(&described)).map_err(
            |e| match e {
                crash_safe::Error::Exists(_) => exists(),
                e => e.into(),
            },
        )?;
        let topic = Arc::new(self.open_topic(name, described, &folder)?);
        open.insert(name.clone(), Arc::clone(&topic));
        Ok(topic)
    }

    /// Held while a topic is made: of several processes that share the folder one at a time makes one.
    pub(super) fn creation_lock(&self) -> Result<Option<Arc<dyn File>>> {
        if self.setup.access != Access::Shared {
            return Ok(None);
        }
        let path = self.folder.join(CREATION_LOCK);
        let failed = |e: std::io::Error| Error::io(format!("lock {}", path.display()), &e);
        let file = self.setup.env.disk.open(&path, OpenMode::OpenOrCreate).map_err(failed)?;
        let clock = &self.setup.env.clock;
        let deadline = clock.monotonic() + CREATION_PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock && clock.monotonic() < deadline => {
                    thread::yield_now();
                }
                Err(e) => return Err(failed(e)),
            }
        }
    }

    /// The topic of this name, created with `spec` if there is none. An existing topic keeps its own.
    pub fn get_or_create(&self, name: &Name, spec: TopicSpec) -> Result<Arc<Topic>> {
        if let Some(topic) = self.find(name)? {
            return Ok(topic);
        }
        match self.create(name, spec) {
            Ok(topic) => Ok(topic),
            // Another thread was first.
            Err(error) => self.find(name)?.ok_or(error),
        }
    }

    /// The topic of this name.
    ///
    /// # Errors
    /// E0308 if there is none, with the nearest name.
    pub fn topic(&self, name: &Name) -> Result<Arc<Topic>> {
        if let Some(topic) = self.find(name)? {
            return Ok(topic);
        }
        let names = self.list()?;
        let error = Error::new(Code::UnknownTopic, format!("there is no topic `{name}`"))
            .at(Place::Named(self.folder.display().to_string()));
        Err(match nearest(name.as_str(), names.iter().map(Name::as_str)) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None if names.is_empty() => error.hint("there are no topics yet: a job that writes to one creates it"),
            None => error.hint("`qanat topics list` lists them, `qanat topics create` makes one"),
        })
    }

    /// The topic of this name, if there is one.
    pub fn find(&self, name: &Name) -> Result<Option<Arc<Topic>>> {
        let mut open = lock(&self.open);
        let folder = self.folder.join(name.as_str());
        let is_shared = self.setup.access == Access::Shared;
        if let Some(topic) = open.get(name).filter(|_| !is_shared) {
            return Ok(Some(Arc::clone(topic)));
        }
        let described: Option<Described> = document::read(self.setup.env.disk.as_ref(), &folder.join(TOPIC_FILE))?;
        // Another process may have deleted it, and made another of its name.
        if let Some(topic) = open.get(name) {
            if described.as_ref().is_some_and(|described| described.id == topic.id()) {
                return Ok(Some(Arc::clone(topic)));
            }
            open.remove(name);
        }
        let Some(described) = described else { return Ok(None) };
        if self.setup.access == Access::Write {
            let disk = self.setup.env.disk.as_ref();
            crash_safe::sweep(disk, &folder)?;
            crash_safe::sweep(disk, &rows_folder(&folder, described.id))?;
        }
        let topic = Arc::new(self.open_topic(name, described, &folder)?);
        open.insert(name.clone(), Arc::clone(&topic));
        Ok(Some(topic))
    }

    /// Names of all topics, sorted.
    pub fn list(&self) -> Result<Vec<Name>> {
        let mut names = Vec::new();
        for entry in self.entries(&self.folder)? {
            let name = entry.path.file_name().and_then(|name| name.to_str()).and_then(|name| Name::new(name).ok());
            if let Some(name) = name
                && entry.is_dir
                && self.describes_topic(&entry.path)?
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    pub fn describe(&self, name: &Name) -> Result<TopicDescription> {
        self.topic(name)?.describe()
    }

    /// Deletes a topic and its rows. Whoever still appends to it fails with E0308.
    pub fn delete(&self, name: &Name) -> Result<()> {
        if self.setup.access == Access::Read {
            return Err(Error::new(Code::Usage, "the topics are open for reading only"));
        }
        let topic = self.topic(name)?;
        let mut open = lock(&self.open);
        for partition in topic.open_already() {
            let error = Error::new(Code::UnknownTopic, format!("topic `{name}` was deleted"));
            if let Some(writer) = lock(&partition.writer).as_mut() {
                writer.poison(error);
            }
        }
        let folder = self.folder.join(name.as_str());
        // Without its description the folder is no topic any more, whatever happens next.
        crash_safe::rename(self.setup.env.disk.as_ref(), &folder.join(TOPIC_FILE), &folder.join(DELETED_FILE))?;
        open.remove(name);
        remove_contents(&self.setup.env, &folder)
    }

    /// Removes what a deletion that died left.
    pub(super) fn remove_leftovers(&self, name: &Name) -> Result<()> {
        let folder = self.folder.join(name.as_str());
        if self.exists(&folder.join(DELETED_FILE))? { remove_contents(&self.setup.env, &folder) } else { Ok(()) }
    }

    pub(super) fn env(&self) -> &Env {
        &self.setup.env
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Applies every topic's own retention. Returns how many segments went.
    pub fn retain(&self) -> Result<usize> {
        self.list()?.iter().try_fold(0, |sum, name| Ok(sum + self.topic(name)?.retain()?))
    }

    /// The same without what goes when it was read.
    pub fn retain_unasked(&self) -> Result<usize> {
        self.list()?.iter().try_fold(0, |sum, name| Ok(sum + self.topic(name)?.retain_unasked()?))
    }

    /// The same for what this process owns, of several that share the folder. Topics that it has not used are not
    /// looked at: it owns nothing of them.
    pub fn retain_owned(&self) -> Result<usize> {
        let used: Vec<Name> = lock(&self.open).keys().cloned().collect();
        // One that was deleted meanwhile is forgotten.
        goes_on(used, |name| self.find(&name)?.map_or(Ok(0), |topic| topic.retain_owned()))
    }

    /// Forgets a dropped job in every topic.
    pub fn forget_job(&self, job: qanat_proto::ids::JobId) -> Result<()> {
        self.list()?.iter().try_for_each(|name| self.topic(name)?.forget_job(job))
    }

    /// The writer of this folder's disk.
    pub fn group_commit(&self) -> &GroupCommit {
        &self.setup.commit
    }

    fn describes_topic(&self, folder: &Path) -> Result<bool> {
        self.exists(&folder.join(TOPIC_FILE))
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        self.setup.env.disk.exists(path).map_err(|e| Error::io(format!("read {}", path.display()), &e))
    }

    /// What is in a folder; nothing if it is not there.
    fn entries(&self, folder: &Path) -> Result<Vec<Entry>> {
        match self.setup.env.disk.list(folder) {
            Ok(entries) => Ok(entries),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(Error::io(format!("list {}", folder.display()), &e)),
        }
    }

    fn holds_segments(&self, folder: &Path) -> Result<bool> {
        for entry in self.entries(folder)? {
            if parse_sequence(&entry.path, "log").is_some() || (entry.is_dir && self.holds_segments(&entry.path)?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn open_topic(&self, name: &Name, described: Described, folder: &Path) -> Result<Topic> {
        Topic::open(name.clone(), described, folder, self.setup.clone())
    }
}

/// Removes a folder and all in it, if it is there.
fn remove_contents(env: &Env, folder: &Path) -> Result<()> {
    let disk = env.disk.as_ref();
    let failing = |path: &Path, e: &std::io::Error| Error::io(format!("remove {}", path.display()), e);
    let mut entries = match disk.list(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failing(folder, &e)),
    };
    // The sign that its deletion began goes after what it is about.
    entries.sort_by_key(|entry| !entry.is_dir);
    for entry in entries {
        if entry.is_dir {
            remove_contents(env, &entry.path)?;
        } else {
            disk.remove_file(&entry.path).map_err(|e| failing(&entry.path, &e))?;
        }
    }
    disk.remove_dir(folder).map_err(|e| failing(folder, &e))?;
    disk.sync_dir(crash_safe::folder_of(folder)).map_err(|e| {
        Error::new(Code::FsyncFailed, format!("could not sync {}: {e}", crash_safe::folder_of(folder).display()))
    })
}
