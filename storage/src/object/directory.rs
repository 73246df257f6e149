//! [`DirectoryStore`]: the `object_store` trait over a folder of `env::Disk`, with every put synced.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    Attributes, CopyMode, CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, UpdateVersion,
};
use qanat_proto::error::is_out_of_files;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::upload::DirectoryUpload;
use crate::crash_safe::{self, Draft};
use crate::env::{Entry, Env, File, OpenMode, thread};

const STORE: &str = "DirectoryStore";

/// Bytes read at a time when an object is streamed.
const READ_BYTES: u64 = 4 << 20;

/// Objects up to this many bytes have an entity tag, a hash of their contents, and can be updated on
/// condition. Larger ones would have to be read for it; nothing that large is ever updated in place.
const TAGGED_BYTES_MAX: u64 = 1 << 20;

/// Longest segment of a key, in bytes: what file systems take as a name.
const SEGMENT_BYTES_MAX: usize = 255;

/// Objects as files below a folder: key `a/b` is file `b` in folder `a`.
///
/// - A put is durable when it returns: draft, sync, rename, sync of the folder (`crash_safe`).
/// - `PutMode::Create` and `CopyMode::Create` are decided by the file system, so exactly one of several
///   writers wins, in this process or another. `PutMode::Update` compares contents (the tag is their
///   hash) and is atomic among the users of this store value and its clones only.
/// - Keys have no segment that is empty, begins with a dot, or holds a slash, a backslash or a control
///   character. A key cannot be both an object and a prefix of others.
/// - Attributes and tags are not kept; a put with attributes is refused.
/// - Calls do their work before the returned future first yields; they block on the disk.
#[derive(Clone)]
pub struct DirectoryStore {
    inner: Arc<Inner>,
}

/// Why a directory store refused; the source of the `object_store::Error` it returned.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A sync failed earlier, here or in a clone.
    #[error("the store takes no more writes, because a sync failed before")]
    Poisoned,
    #[error(transparent)]
    File(#[from] crash_safe::Error),
    #[error("bad object key {key:?}: {reason}")]
    Key { key: String, reason: &'static str },
    /// The range asked for does not lie in the object.
    #[error("{0}")]
    Range(String),
}

impl DirectoryStore {
    /// Objects below `root`, which is created if it is missing.
    pub fn open(env: &Env, root: &FilePath) -> Result<Self, crash_safe::Error> {
        crash_safe::create_folder(env.disk.as_ref(), root)?;
        let inner = Inner {
            env: env.clone(),
            root: root.into(),
            poisoned: AtomicBool::new(false),
            folders: Mutex::new(BTreeSet::from([root.to_path_buf()])),
            names: RwLock::new(()),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whether names could not be synced: nothing is written any more.
    pub fn is_poisoned(&self) -> bool {
        self.inner.writable().is_err()
    }

    /// Removes the drafts that crashes left behind and the folders that hold nothing; returns the number
    /// of drafts. Only while nobody else, in no process, writes to the store.
    pub fn sweep(&self) -> Result<usize, Fault> {
        let _names = thread::write(&self.inner.names);
        thread::lock(&self.inner.folders).retain(|folder| *folder == self.inner.root);
        self.inner.sweep(&self.inner.root)
    }
}

pub(super) struct Inner {
    pub(super) env: Env,
    root: PathBuf,
    poisoned: AtomicBool,
    /// Folders whose names are known to be durable.
    folders: Mutex<BTreeSet<PathBuf>>,
    /// Held for writing by what must look at an object and then change it.
    names: RwLock<()>,
}

impl Inner {
    /// Where a key's object lies.
    pub(super) fn place(&self, key: &Path) -> Result<PathBuf, Fault> {
        let mut path = self.root.clone();
        let mut segments = 0;
        for segment in key.parts() {
            let segment = segment.as_ref();
            let reason = match segment {
                "" => "a segment is empty",
                _ if segment.starts_with('.') => "a segment begins with a dot",
                _ if segment.len() > SEGMENT_BYTES_MAX => "a segment is too long",
                _ if segment.contains(|c: char| c == '/' || c == '\\' || c.is_control()) => {
                    "a segment holds a slash, a backslash or a control character"
                }
                _ => {
                    path.push(segment);
                    segments += 1;
                    continue;
                }
            };
            return Err(Fault::Key { key: key.to_string(), reason });
        }
        if segments == 0 {
            return Err(Fault::Key { key: key.to_string(), reason: "it is empty" });
        }
        Ok(path)
    }

    /// The folder of a prefix; the root for none.
    fn folder(&self, prefix: Option<&Path>) -> Result<PathBuf, Fault> {
        match prefix {
            Some(prefix) if !prefix.as_ref().is_empty() => self.place(prefix),
            _ => Ok(self.root.clone()),
        }
    }

    pub(super) fn writable(&self) -> Result<(), Fault> {
        if self.poisoned.load(Ordering::SeqCst) { Err(Fault::Poisoned) } else { Ok(()) }
    }

    /// Passes a result on, and remembers a failed sync of names.
    pub(super) fn noted<T>(&self, result: Result<T, crash_safe::Error>) -> Result<T, Fault> {
        if matches!(result, Err(crash_safe::Error::Sync { .. })) {
            self.poisoned.store(true, Ordering::SeqCst);
        }
        Ok(result?)
    }

    /// As [`Self::noted`], where whoever tries again syncs the names first: then a folder that could not be opened to be
    /// synced, for want of a file descriptor, is no reason to give the store up.
    fn noted_if_lasting<T>(&self, result: Result<T, crash_safe::Error>) -> Result<T, Fault> {
        match result {
            Err(crash_safe::Error::Sync { source, path }) if is_out_of_files(&source) => {
                Err(crash_safe::Error::Sync { source, path }.into())
            }
            result => self.noted(result),
        }
    }

    /// A draft beside `path`, whose folder is created durably if need be.
    pub(super) fn draft(&self, path: &FilePath) -> Result<Draft, Fault> {
        self.writable()?;
        self.prepare_folder(path)?;
        self.noted(Draft::create(&self.env, crash_safe::folder_of(path)))
    }

    fn prepare_folder(&self, path: &FilePath) -> Result<(), Fault> {
        let folder = crash_safe::folder_of(path);
        let mut known = thread::lock(&self.folders);
        if known.contains(folder) {
            return Ok(());
        }
        // Level by level, so that each name is synced even if its folder was made by someone who died.
        let mut levels: Vec<&FilePath> =
            folder.ancestors().take_while(|level| level.starts_with(&self.root) && !known.contains(*level)).collect();
        levels.reverse();
        for level in levels {
            self.noted_if_lasting(crash_safe::create_folder(self.env.disk.as_ref(), level))?;
            known.insert(level.to_path_buf());
        }
        Ok(())
    }

    fn put(&self, key: &Path, payload: &PutPayload, options: &PutOptions) -> object_store::Result<PutResult> {
        if !options.attributes.is_empty() {
            return Err(object_store::Error::NotSupported { source: "a directory keeps no attributes".into() });
        }
        let failed = |fault: Fault| write_error(key, fault);
        let path = self.place(key).map_err(failed)?;
        let mut draft = self.draft(&path).map_err(failed)?;
        let mut hash = Xxh3::new();
        let is_tagged = payload.content_length() as u64 <= TAGGED_BYTES_MAX;
        for bytes in payload {
            self.noted(draft.write(bytes)).map_err(failed)?;
            if is_tagged {
                hash.update(bytes);
            }
        }
        match &options.mode {
            PutMode::Create => self.publish(draft, &path, true).map_err(failed)?,
            PutMode::Overwrite => self.publish(draft, &path, false).map_err(failed)?,
            PutMode::Update(expected) => {
                // The slow part, the contents, goes first; the lock then covers a short step.
                self.noted(draft.sync()).map_err(failed)?;
                let _names = thread::write(&self.names);
                self.check_version(key, &path, expected)?;
                self.noted(draft.publish_replacing(&path)).map_err(failed)?;
            }
        }
        Ok(PutResult { e_tag: is_tagged.then(|| tag(hash.digest128())), version: None })
    }

    pub(super) fn publish(&self, draft: Draft, path: &FilePath, is_new: bool) -> Result<(), Fault> {
        self.noted(draft.sync())?;
        let _names = thread::read(&self.names);
        self.writable()?;
        match is_new {
            true => self.noted_if_lasting(draft.publish_new(path)),
            false => self.noted(draft.publish_replacing(path)),
        }
    }

    fn check_version(&self, key: &Path, path: &FilePath, expected: &UpdateVersion) -> object_store::Result<()> {
        let Some(expected) = &expected.e_tag else {
            return Err(object_store::Error::NotSupported { source: "an update needs an entity tag".into() });
        };
        let found = match self.read_tag(path) {
            Ok(found) => found,
            Err(e) if is_missing(&e) => None,
            Err(source) => {
                let error = crash_safe::Error::Io { what: "read", path: path.into(), source };
                return Err(read_error(key, error.into()));
            }
        };
        if found.as_ref() != Some(expected) {
            let source = format!("{found:?} does not match {expected}").into();
            return Err(object_store::Error::Precondition { path: key.to_string(), source });
        }
        Ok(())
    }

    fn read_tag(&self, path: &FilePath) -> io::Result<Option<String>> {
        let file = self.env.disk.open(path, OpenMode::Read)?;
        tag_of(file.as_ref(), file.len()?)
    }

    fn get(&self, key: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        let path = self.place(key).map_err(|fault| read_error(key, fault))?;
        let failed = |source: io::Error| {
            read_error(key, crash_safe::Error::Io { what: "read", path: path.clone(), source }.into())
        };
        let file = self.env.disk.open(&path, OpenMode::Read).map_err(failed)?;
        let size = file.len().map_err(failed)?;
        let entry = self.env.disk.metadata(&path).map_err(failed)?;
        let mut meta = meta(key.clone(), &entry);
        meta.size = size;
        meta.e_tag = tag_of(file.as_ref(), size).map_err(failed)?;
        options.check_preconditions(&meta)?;
        let range = match &options.range {
            None => 0..size,
            Some(range) => range.as_range(size).map_err(|e| read_error(key, Fault::Range(e.to_string())))?,
        };
        let payload = if options.head { stream::empty().boxed() } else { read_stream(file, path, range.clone()) };
        Ok(GetResult { payload: GetResultPayload::Stream(payload), meta, range, attributes: Attributes::default() })
    }

    fn delete(&self, key: &Path) -> object_store::Result<()> {
        let path = self.place(key).map_err(|fault| read_error(key, fault))?;
        self.writable().map_err(|fault| write_error(key, fault))?;
        let _names = thread::read(&self.names);
        match self.env.disk.metadata(&path) {
            Ok(entry) if !entry.is_dir => {}
            Ok(_) => return Err(not_found(key, io::ErrorKind::IsADirectory.into(), &path)),
            Err(e) if is_missing(&e) => return Err(not_found(key, e, &path)),
            // The removal itself will say what is wrong.
            Err(_) => {}
        }
        self.noted(crash_safe::remove(self.env.disk.as_ref(), &path)).map_err(|fault| read_error(key, fault))
    }

    fn copy(&self, from: &Path, to: &Path, mode: CopyMode) -> object_store::Result<()> {
        let source = self.place(from).map_err(|fault| read_error(from, fault))?;
        let failed = |fault: Fault| write_error(to, fault);
        let target = self.place(to).map_err(failed)?;
        self.writable().map_err(failed)?;
        match self.env.disk.metadata(&source) {
            Ok(entry) if !entry.is_dir => {}
            Ok(_) => return Err(not_found(from, io::ErrorKind::IsADirectory.into(), &source)),
            Err(e) => {
                return Err(read_error(from, crash_safe::Error::Io { what: "copy", path: source, source: e }.into()));
            }
        }
        self.prepare_folder(&target).map_err(failed)?;
        let _names = thread::read(&self.names);
        let copied = match mode {
            CopyMode::Create => crash_safe::copy_new(self.env.disk.as_ref(), &source, &target),
            CopyMode::Overwrite => crash_safe::copy_replacing(&self.env, &source, &target),
        };
        self.noted(copied).map_err(failed)
    }

    /// The visible entries of a folder: neither hidden ones nor names that no key can have. Empty if the
    /// folder is missing.
    fn entries(&self, prefix: &Path, folder: &FilePath) -> object_store::Result<Vec<(Path, Entry)>> {
        let listed = match self.env.disk.list(folder) {
            Ok(listed) => listed,
            Err(e) if is_missing(&e) => return Ok(Vec::new()),
            Err(source) => {
                let error = crash_safe::Error::Io { what: "list", path: folder.into(), source };
                return Err(write_error(prefix, error.into()));
            }
        };
        let mut entries = Vec::with_capacity(listed.len());
        for entry in listed {
            let Some(name) = entry.path.file_name().and_then(|name| name.to_str()) else { continue };
            let key = if prefix.as_ref().is_empty() { name.to_string() } else { format!("{prefix}/{name}") };
            match Path::parse(&key) {
                Ok(key) if self.place(&key).is_ok() => entries.push((key, entry)),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(entries)
    }

    fn list(&self, prefix: Option<&Path>) -> object_store::Result<Vec<ObjectMeta>> {
        let start = prefix.cloned().unwrap_or_default();
        let folder = self.folder(prefix).map_err(|fault| write_error(&start, fault))?;
        let mut open = vec![(start, folder)];
        let mut found = Vec::new();
        while let Some((prefix, folder)) = open.pop() {
            for (key, entry) in self.entries(&prefix, &folder)? {
                if entry.is_dir {
                    open.push((key, entry.path));
                } else {
                    found.push(meta(key, &entry));
                }
            }
        }
        found.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(found)
    }

    fn list_level(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        let start = prefix.cloned().unwrap_or_default();
        let folder = self.folder(prefix).map_err(|fault| write_error(&start, fault))?;
        let mut level = ListResult { common_prefixes: Vec::new(), objects: Vec::new() };
        for (key, entry) in self.entries(&start, &folder)? {
            if !entry.is_dir {
                level.objects.push(meta(key, &entry));
            } else if !self.list(Some(&key))?.is_empty() {
                // An empty folder is left over from deleted objects; a store has no such thing.
                level.common_prefixes.push(key);
            }
        }
        Ok(level)
    }

    fn sweep(&self, folder: &FilePath) -> Result<usize, Fault> {
        let disk = self.env.disk.as_ref();
        let failed = |source| crash_safe::Error::Io { what: "sweep", path: folder.into(), source };
        let mut swept = crash_safe::sweep(disk, folder)?;
        for entry in disk.list(folder).map_err(failed)? {
            let is_hidden = entry.path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if entry.is_dir && !is_hidden {
                swept += self.sweep(&entry.path)?;
                if disk.list(&entry.path).map_err(failed)?.is_empty() {
                    disk.remove_dir(&entry.path).map_err(failed)?;
                }
            }
        }
        Ok(swept)
    }
}

impl fmt::Display for DirectoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{STORE}({})", self.inner.root.display())
    }
}

impl fmt::Debug for DirectoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[async_trait]
impl ObjectStore for DirectoryStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.inner.put(location, &payload, &options)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        if !options.attributes.is_empty() {
            return Err(object_store::Error::NotSupported { source: "a directory keeps no attributes".into() });
        }
        Ok(Box::new(DirectoryUpload::start(&self.inner, location).map_err(|fault| write_error(location, fault))?))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.inner.get(location, options)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        let inner = self.inner.clone();
        locations
            .map(move |location| {
                let location = location?;
                inner.delete(&location)?;
                Ok(location)
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        match self.inner.list(prefix) {
            Ok(found) => stream::iter(found.into_iter().map(Ok)).boxed(),
            Err(e) => stream::iter([Err(e)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_level(prefix)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy(from, to, options.mode)
    }
}

/// The bytes of a range, read when asked for.
fn read_stream(
    file: Arc<dyn File>,
    path: PathBuf,
    range: std::ops::Range<u64>,
) -> BoxStream<'static, object_store::Result<Bytes>> {
    let starts = range.clone().step_by(READ_BYTES as usize);
    stream::iter(starts.map(move |start| {
        let len = READ_BYTES.min(range.end - start);
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, start).map_err(|source| object_store::Error::Generic {
            store: STORE,
            source: Box::new(Fault::File(crash_safe::Error::Io { what: "read", path: path.clone(), source })),
        })?;
        Ok(Bytes::from(bytes))
    }))
    .boxed()
}

fn tag_of(file: &dyn File, size: u64) -> io::Result<Option<String>> {
    if size > TAGGED_BYTES_MAX {
        return Ok(None);
    }
    let mut bytes = vec![0; size as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(Some(tag(xxh3_128(&bytes))))
}

fn tag(hash: u128) -> String {
    format!("{hash:032x}")
}

fn meta(location: Path, entry: &Entry) -> ObjectMeta {
    let last_modified = DateTime::<Utc>::from_timestamp_millis(entry.modified_ms).unwrap_or_default();
    ObjectMeta { location, last_modified, size: entry.len, e_tag: None, version: None }
}

/// Whether an error means that no object is there: no such name, a folder, or below an object.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory)
}

fn not_found(key: &Path, source: io::Error, path: &FilePath) -> object_store::Error {
    let source = Fault::File(crash_safe::Error::Io { what: "find", path: path.into(), source });
    object_store::Error::NotFound { path: key.to_string(), source: Box::new(source) }
}

/// The trait's error for a fault of a call that needs the object to be there.
fn read_error(key: &Path, fault: Fault) -> object_store::Error {
    match fault {
        Fault::File(crash_safe::Error::Io { ref source, .. }) if is_missing(source) => {
            object_store::Error::NotFound { path: key.to_string(), source: Box::new(fault) }
        }
        fault => write_error(key, fault),
    }
}

/// The trait's error for a fault of a call that makes the object, or of a listing.
pub(super) fn write_error(key: &Path, fault: Fault) -> object_store::Error {
    let path = key.to_string();
    match &fault {
        Fault::File(crash_safe::Error::Exists(_)) => {
            object_store::Error::AlreadyExists { path, source: Box::new(fault) }
        }
        Fault::File(crash_safe::Error::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
            object_store::Error::PermissionDenied { path, source: Box::new(fault) }
        }
        Fault::File(_) | Fault::Poisoned | Fault::Key { .. } | Fault::Range(_) => {
            object_store::Error::Generic { store: STORE, source: Box::new(fault) }
        }
    }
}
