//! What lies in a partition's folder, told apart by name.
//!
//! Before retention removes segments it leaves a record of the first one that stays, a file without content:
//! `0000000000000007.first` says that the segments below 7 are no part of the log any more. The highest record holds, so
//! that a former owner with an old view cannot take a newer one back. Then the segments go, the lowest first.
//!
//! So a segment that is missing is always told from one that was removed, and what a removal that stopped, or a former
//! owner that slept, leaves under a lower number counts for nothing.
//!
//! A folder that others change is not read in one moment: what is there all the while is found, and what comes and goes
//! may be or not.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use qanat_proto::error::{Code, Error, Result};

use super::partition::Partition;
use super::segment::{damaged, parse_sequence, segment_path};
use super::topic::{Described, TOPIC_FILE, rows_folder};
use super::{document, lock};
use crate::crash_safe;
use crate::env::{Disk, Entry};

/// So many times a folder looks the same before something is missing in it.
const LOOKS: u32 = 3;

/// The names in a partition's folder.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listing {
    /// Number of the lowest segment that is part of the log.
    pub first: u64,
    /// The segments from there on, by their numbers.
    pub segments: Vec<(u64, PathBuf)>,
    /// Segments below, by their numbers.
    passed: Vec<(u64, PathBuf)>,
    /// Markers and records below.
    notes: Vec<PathBuf>,
}

impl Listing {
    /// Numbers of the first and the last segment.
    pub(super) fn range(&self) -> Option<(u64, u64)> {
        self.segments.first().map(|(first, _)| *first).zip(self.segments.last().map(|(last, _)| *last))
    }

    /// The lowest number from the first to the last segment that has no file.
    fn missing(&self) -> Option<u64> {
        let mut expected = (self.first..).zip(&self.segments);
        match expected.find(|(expected, (number, _))| expected != number) {
            Some((missing, _)) => Some(missing),
            None => (self.first > 0 && self.segments.is_empty()).then_some(self.first),
        }
    }
}

impl Partition {
    pub(super) fn list(&self) -> Result<Listing> {
        let listed = self.env.disk.list(&self.folder);
        let (mut segments, mut markers, mut records) = (Vec::new(), Vec::new(), Vec::new());
        for Entry { path, .. } in listed.map_err(|e| Error::io(format!("list {}", self.folder.display()), &e))? {
            let kinds = [("log", &mut segments), ("seal", &mut markers), ("first", &mut records)];
            for (kind, of_kind) in kinds {
                if let Some(number) = parse_sequence(&path, kind) {
                    of_kind.push((number, path));
                    break;
                }
            }
        }
        let first = records.iter().map(|(number, _)| *number).max().unwrap_or(0);
        segments.sort_unstable();
        let passed = segments.extract_if(.., |(number, _)| *number < first).collect();
        let notes = markers.into_iter().chain(records).filter(|(number, _)| *number < first);
        Ok(Listing { first, segments, passed, notes: notes.map(|(_, path)| path).collect() })
    }

    /// [`Partition::list`], without gap.
    ///
    /// # Errors
    /// E0304 if a segment is missing, E0308 if the topic was deleted.
    pub(super) fn list_whole(&self) -> Result<Listing> {
        let (mut listing, mut looks) = (self.list()?, 1);
        // Retention may go on while the folder is read: the record of it was there before anything went.
        while looks < LOOKS && (listing.missing().is_some() || listing.segments.is_empty()) {
            let before = std::mem::replace(&mut listing, self.list()?);
            looks = if listing == before { looks + 1 } else { 1 };
        }
        let missing = listing.missing();
        if missing.is_some() || listing.segments.is_empty() {
            self.refuse_if_deleted()?;
        }
        missing.map_or(Ok(listing), |missing| Err(damaged(&segment_path(&self.folder, missing), 0, "it is missing")))
    }

    /// What is missing is no damage if the topic is being deleted.
    fn refuse_if_deleted(&self) -> Result<()> {
        let Some(topic) = self.folder.ancestors().nth(2) else { return Ok(()) };
        let described: Option<Described> = document::read(self.env.disk.as_ref(), &topic.join(TOPIC_FILE))?;
        match described {
            Some(described) if self.folder.starts_with(rows_folder(topic, described.id)) => Ok(()),
            _ => Err(Error::new(Code::UnknownTopic, format!("topic `{}` was deleted", self.topic))),
        }
    }

    /// Makes durable that the log begins at segment `first`, also if the same was recorded before: whoever did so may
    /// have died before it was durable.
    ///
    /// # Errors
    /// E0305, and others that leave no record.
    fn record_first(&self, first: u64) -> Result<()> {
        Ok(crash_safe::replace(&self.env, &self.folder.join(format!("{first:016}.first")), &[])?)
    }

    /// Removes the segments below `first`. Returns how many were part of the log until then.
    ///
    /// # Errors
    /// E0305, after which they may be part of it or not; others before anything is removed, or after: then they are not.
    pub(super) fn remove_below(&self, first: u64) -> Result<usize> {
        self.record_first(first)?;
        // Readers see them go before the files do: one that holds a file open may finish it.
        let mut gone = 0;
        let mut shared = lock(&self.shared);
        while shared.segments.front().is_some_and(|segment| segment.header.sequence < first) {
            shared.segments.pop_front();
            gone += 1;
        }
        drop(shared);
        let listing = self.list()?;
        if listing.first > first {
            // Another process's record.
            self.record_first(listing.first)?;
        }
        self.sweep(&listing)?;
        Ok(gone)
    }

    /// Removes what others left below the first segment, as far as that goes: it harms nobody.
    pub(super) fn sweep_below(&self, listing: &Listing) {
        if listing.passed.is_empty() && listing.notes.is_empty() {
            return;
        }
        let swept = self.record_first(listing.first).and_then(|()| self.sweep(listing));
        if let Err(error) = swept {
            tracing::warn!(%error, "could not remove what is no part of {self} any more");
        }
    }

    /// In this order, and none before the one before is gone for good: whether its last segment stands, or its marker,
    /// tells a former owner that it was replaced.
    fn sweep(&self, listing: &Listing) -> Result<()> {
        let disk = self.env.disk.as_ref();
        listing.passed.iter().try_for_each(|(_, path)| remove_for_good(disk, path))?;
        listing.notes.iter().try_for_each(|path| remove_for_good(disk, path))
    }
}

/// Durably.
fn remove_for_good(disk: &dyn Disk, path: &Path) -> Result<()> {
    match crash_safe::remove(disk, path) {
        // Another process was faster.
        Err(crash_safe::Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(()),
        removed => Ok(removed?),
    }
}
