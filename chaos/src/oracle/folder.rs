//! A folder written by the file sink, watched by somebody who knows only `docs/file-sink.md`.
//!
//! [`FolderReader::observe`] may be called at any moment, while the job runs, commits or lies dead, and
//! checks what must hold at every moment:
//! - a visible file is whole, never changes, and belongs to a committed epoch or to the one epoch whose
//!   commit is under way, which has its manifest already;
//! - every record is whole, follows the one it says it follows, and names files that are there with the
//!   length and CRC32C it says.
//!
//! - what a rollback took back has its tombstone first, and is gone once no withdrawal is under way: neither its
//!   records nor its files count any more.
//!
//! Rows are given out once their file is named by a record. Tables are CSV with a header and without
//! partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Violation;
use super::record::{self, ObjectName, Record, RecordFile};

/// Takes the fields of one committed row; an error is a violation.
pub type RowCheck<'a> = dyn FnMut(&[&str]) -> std::result::Result<(), String> + 'a;

/// What is remembered of a visible file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    bytes: u64,
    crc32c: u32,
}

/// The reader of one table's folder.
pub struct FolderReader {
    folder: PathBuf,
    /// `<job folder>/checkpoints/manifests`, to see that nothing shows before its manifest is there.
    manifests: Option<PathBuf>,
    header: String,
    seen: BTreeMap<String, Seen>,
    /// Content of visible files that no record names yet.
    unnamed: BTreeMap<String, String>,
    named: BTreeSet<String>,
    /// Newest record by job and operator.
    last: BTreeMap<(String, String), u64>,
    records: u64,
    rows: u64,
    broken: BTreeSet<PathBuf>,
}

impl FolderReader {
    /// For a table whose files begin with the line `header`.
    pub fn new(folder: &Path, manifests: Option<PathBuf>, header: &str) -> Self {
        Self {
            folder: folder.to_owned(),
            manifests,
            header: header.to_owned(),
            seen: BTreeMap::new(),
            unnamed: BTreeMap::new(),
            named: BTreeSet::new(),
            last: BTreeMap::new(),
            records: 0,
            rows: 0,
            broken: BTreeSet::new(),
        }
    }

    /// Committed rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Epochs with a record so far.
    pub fn epochs(&self) -> u64 {
        self.records
    }

    /// Files that a record names so far.
    pub fn files(&self) -> u64 {
        self.named.len() as u64
    }

    /// Whether a commit is under way: a file shows that no record names.
    pub fn is_committing(&self) -> bool {
        !self.unnamed.is_empty()
    }

    /// Looks once.
    ///
    /// # Errors
    /// If the folder cannot be read; what is wrong with it is a violation, not an error.
    pub fn observe(&mut self, check: &mut RowCheck<'_>) -> Result<Vec<Violation>> {
        let mut violations = Vec::new();
        // In this order: what is visible now has its manifest by now, and if it is not named by the
        // records read later, its epoch is later than all of them.
        let visible = self.visible()?;
        self.look_at_files(&visible, &mut violations)?;
        let manifests = self.manifest_epochs()?;
        self.look_at_records(check, &mut violations)?;
        // A withdrawal that is under way still shows some.
        for file in self.unnamed.keys().cloned().collect::<Vec<_>>() {
            if self.is_withdrawn(&file)? {
                self.unnamed.remove(&file);
                self.seen.remove(&file);
            }
        }
        self.look_at_unnamed(&manifests, &mut violations);
        Ok(violations)
    }

    /// What must hold once the job has ended: nothing visible is unnamed, nothing staged is left, and no
    /// file ever changed.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn finish(&mut self, check: &mut RowCheck<'_>) -> Result<Vec<Violation>> {
        let mut violations = self.observe(check)?;
        violations.extend(self.unnamed.keys().map(|file| format!("{file} is visible and no record names it")));
        for name in names(&self.folder.join(".staged"))? {
            violations.push(format!(".staged/{name} was left behind"));
        }
        for (file, seen) in &self.seen {
            let bytes = std::fs::read(self.folder.join(file)).with_context(|| format!("read {file}"))?;
            if *seen != Seen::of(&bytes) {
                violations.push(format!("{file} changed after it was visible"));
            }
        }
        Ok(violations)
    }

    /// First and last of the epochs of an operator that have a tombstone.
    fn withdrawn(&self, (job, operator): &(String, String)) -> Result<Vec<(u64, u64)>> {
        let tombstones = names(&self.folder.join("_withdrawn").join(job).join(operator))?;
        let range = |name: &String| {
            let (first, last) = name.strip_suffix(".json")?.split_once('-')?;
            Some((first.parse().ok()?, last.parse().ok()?))
        };
        Ok(tombstones.iter().filter_map(range).collect())
    }

    /// Whether a file's epoch has a tombstone.
    fn is_withdrawn(&self, file: &str) -> Result<bool> {
        let Some(name) = ObjectName::parse(file) else { return Ok(false) };
        Ok(is_within(&self.withdrawn(&(name.job, name.operator))?, name.epoch))
    }

    fn visible(&self) -> Result<BTreeSet<String>> {
        Ok(names(&self.folder)?.into_iter().filter(|name| !name.starts_with(['.', '_'])).collect())
    }

    fn look_at_files(&mut self, visible: &BTreeSet<String>, violations: &mut Vec<Violation>) -> Result<()> {
        for file in self.seen.keys().filter(|file| !visible.contains(*file)).cloned().collect::<Vec<_>>() {
            if self.is_withdrawn(&file)? {
                self.unnamed.remove(&file);
            } else {
                violations.push(format!("{file} was visible and is gone"));
            }
        }
        self.seen.retain(|file, _| visible.contains(file));
        for file in visible.iter().filter(|file| !self.seen.contains_key(*file)).cloned().collect::<Vec<_>>() {
            let bytes = std::fs::read(self.folder.join(&file)).with_context(|| format!("read {file}"))?;
            self.seen.insert(file.clone(), Seen::of(&bytes));
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if !text.ends_with('\n') || text.lines().next() != Some(self.header.as_str()) {
                violations.push(format!("{file} is visible and not whole ({} bytes)", bytes.len()));
            }
            self.unnamed.insert(file, text);
        }
        Ok(())
    }

    fn look_at_records(&mut self, check: &mut RowCheck<'_>, violations: &mut Vec<Violation>) -> Result<()> {
        let commits = self.folder.join("_commits");
        for job in names(&commits)? {
            for operator in names(&commits.join(&job))? {
                let folder = commits.join(&job).join(&operator);
                let key = (job.clone(), operator);
                let mut epochs: Vec<u64> = Vec::new();
                for name in names(&folder)?.iter().filter(|name| !name.starts_with('.')) {
                    match name.strip_suffix(".json").and_then(|epoch| epoch.parse().ok()) {
                        Some(epoch) => epochs.push(epoch),
                        None => violations.push(format!("{} is no record", folder.join(name).display())),
                    }
                }
                let withdrawn = self.withdrawn(&key)?;
                epochs.retain(|epoch| !is_within(&withdrawn, *epoch));
                epochs.sort_unstable();
                let known = self.last.get(&key).copied();
                for epoch in epochs.into_iter().filter(|epoch| known.is_none_or(|known| *epoch > known)) {
                    let path = folder.join(format!("{epoch}.json"));
                    match record::read(&path) {
                        Ok(record) => self.take_record(&key, &record, check, violations),
                        Err(error) if self.broken.insert(path) => violations.push(format!("{error:#}")),
                        Err(_) => {}
                    }
                }
            }
        }
        Ok(())
    }

    fn take_record(
        &mut self,
        key: &(String, String),
        record: &Record,
        check: &mut RowCheck<'_>,
        violations: &mut Vec<Violation>,
    ) {
        let before = self.last.insert(key.clone(), record.epoch);
        if record.previous != before {
            violations.push(format!(
                "the record of epoch {} says it follows {:?}, and the one before is {before:?}",
                record.epoch, record.previous
            ));
        }
        self.records += 1;
        for file in &record.files {
            if let Err(error) = self.take_file(record, file, check) {
                violations.push(format!("{} (epoch {}): {error}", file.path, record.epoch));
            }
        }
    }

    /// A file that a record names for the first time: it must be what the record says.
    fn take_file(
        &mut self,
        record: &Record,
        file: &RecordFile,
        check: &mut RowCheck<'_>,
    ) -> std::result::Result<(), String> {
        if !self.named.insert(file.path.clone()) {
            return Err("two records name it".to_owned());
        }
        let name = ObjectName::parse(&file.path).ok_or("its name is not of the documented form")?;
        if (name.job.as_str(), name.operator.as_str(), name.epoch)
            != (record.job.as_str(), record.operator.as_str(), record.epoch)
        {
            return Err("its name is of another job, operator or epoch".to_owned());
        }
        let text = match self.unnamed.remove(&file.path) {
            Some(text) => text,
            // It became visible after this look began.
            None => {
                let bytes = std::fs::read(self.folder.join(&file.path)).map_err(|e| e.to_string())?;
                self.seen.insert(file.path.clone(), Seen::of(&bytes));
                String::from_utf8_lossy(&bytes).into_owned()
            }
        };
        let found = Seen::of(text.as_bytes());
        if found != (Seen { bytes: file.bytes, crc32c: file.crc32c }) {
            return Err(format!("it is {found:?}, the record says {} bytes, CRC {}", file.bytes, file.crc32c));
        }
        let mut rows = 0;
        for line in text.lines().skip(1) {
            rows += 1;
            let fields: Vec<&str> = line.split(',').collect();
            check(&fields)?;
        }
        self.rows += rows;
        if rows != file.rows {
            return Err(format!("it has {rows} rows, the record says {}", file.rows));
        }
        Ok(())
    }

    /// What is visible and not named is of one epoch: the next of its job, claimed and being committed.
    fn look_at_unnamed(&mut self, manifests: &Option<BTreeSet<(String, u64)>>, violations: &mut Vec<Violation>) {
        let mut open: Option<(String, u64)> = None;
        for file in self.unnamed.keys() {
            let Some(name) = ObjectName::parse(file) else {
                violations.push(format!("{file} is visible and not of the documented form"));
                continue;
            };
            let last = self.last.get(&(name.job.clone(), name.operator.clone()));
            if last.is_some_and(|last| name.epoch <= *last) {
                violations.push(format!("{file} is visible, its epoch is recorded and the record does not name it"));
            }
            let epoch = (name.job.clone(), name.epoch);
            if manifests.as_ref().is_some_and(|manifests| !manifests.contains(&epoch)) {
                violations.push(format!("{file} is visible before its epoch has a manifest"));
            }
            if open.get_or_insert_with(|| epoch.clone()) != &epoch {
                violations.push(format!("{file} is visible beside files of another epoch without a record"));
            }
        }
    }

    /// Epochs that have a manifest, by job. Names are `<epoch>-<generation>-<attempt>`.
    fn manifest_epochs(&self) -> Result<Option<BTreeSet<(String, u64)>>> {
        let Some(folder) = &self.manifests else { return Ok(None) };
        let mut found = BTreeSet::new();
        for job in names(folder)? {
            for name in names(&folder.join(&job))? {
                if let Some(epoch) = name.split('-').next().and_then(|epoch| epoch.parse().ok()) {
                    found.insert((job.clone(), epoch));
                }
            }
        }
        Ok(Some(found))
    }
}

impl Seen {
    fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, crc32c: crc32c::crc32c(bytes) }
    }
}

fn is_within(ranges: &[(u64, u64)], epoch: u64) -> bool {
    ranges.iter().any(|(first, last)| (*first..=*last).contains(&epoch))
}

/// The names in a folder, in order; none if it is not there.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| format!("list {}", folder.display())),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("list {}", folder.display()))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
