//! What lies in a partition's folder, told apart by name.
//!
//! Before retention removes segments it leaves a record of the first one that stays, a file without content:
//! `0000000000000007.00000000deadbeef.first` says that of the topic with this id the segments below 7 are no part
//! of the log any more. The highest record holds, so that a former owner with an old view cannot take a newer one
//! back, and the id keeps it from meaning another topic that has the name by now.
//!
//! So a segment that is missing is always told from one that was removed. A former owner that slept can take a number
//! that is free again, but nobody reads what it leaves there, and the record tells it of its end
//! ([`Partition::refuse_if_passed`]).

use std::path::PathBuf;

use qanat_proto::error::{Code, Error, Result};

use super::partition::Partition;
use super::segment::{damaged, parse_sequence, segment_path};
use crate::crash_safe;
use crate::env::Entry;

/// The names in a partition's folder at some moment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listing {
    /// Number of the lowest segment that is part of the log.
    pub first: u64,
    /// The segments from there on, by their numbers.
    pub segments: Vec<(u64, PathBuf)>,
    /// What lies below: segments, then markers and records.
    left: Vec<PathBuf>,
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
        let record_kind = self.record_kind();
        let (mut segments, mut markers, mut records) = (Vec::new(), Vec::new(), Vec::new());
        for Entry { path, .. } in listed.map_err(|e| Error::io(format!("list {}", self.folder.display()), &e))? {
            let kinds = [("log", &mut segments), ("seal", &mut markers), (&record_kind, &mut records)];
            for (kind, of_kind) in kinds {
                if let Some(number) = parse_sequence(&path, kind) {
                    of_kind.push((number, path));
                    break;
                }
            }
        }
        let first = records.iter().map(|(number, _)| *number).max().unwrap_or(0);
        let mut left: Vec<(u64, PathBuf)> = segments.extract_if(.., |(number, _)| *number < first).collect();
        left.extend(markers.into_iter().chain(records).filter(|(number, _)| *number < first));
        segments.sort_unstable();
        Ok(Listing { first, segments, left: left.into_iter().map(|(_, path)| path).collect() })
    }

    /// [`Partition::list`], without gap.
    ///
    /// # Errors
    /// E0304 if a segment is missing.
    pub(super) fn list_whole(&self) -> Result<Listing> {
        let mut listing = self.list()?;
        while let Some(missing) = listing.missing() {
            // Retention may go on while the folder is read: the record of it was there before anything went.
            let before = std::mem::replace(&mut listing, self.list()?);
            if listing == before {
                return Err(damaged(&segment_path(&self.folder, missing), 0, "it is missing"));
            }
        }
        Ok(listing)
    }

    /// Records durably that the log begins at segment `first`. Earlier records go.
    pub(super) fn record_first(&self, first: u64) -> Result<()> {
        let (disk, kind) = (self.env.disk.as_ref(), self.record_kind());
        let path = self.folder.join(format!("{first:016}.{kind}"));
        match crash_safe::write_new(&self.env, &path, &[]) {
            Ok(()) | Err(crash_safe::Error::Exists(_)) => {}
            Err(e) => return Err(e.into()),
        }
        let is_earlier = |path: &PathBuf| parse_sequence(path, &kind).is_some_and(|number| number < first);
        for path in self.list()?.left.iter().filter(|path| is_earlier(path)) {
            // One that stays says less, and goes with the next sweep.
            let _ = disk.remove_file(path);
        }
        Ok(())
    }

    /// Removes what lies below the first segment.
    pub(super) fn sweep_below(&self, listing: &Listing) -> Result<()> {
        for path in &listing.left {
            match crash_safe::remove(self.env.disk.as_ref(), path) {
                Err(crash_safe::Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
        Ok(())
    }

    /// To be asked after a segment was begun: from then on nobody passes it over.
    ///
    /// # Errors
    /// E0306 if its number had been used before and was free again.
    pub(super) fn refuse_if_passed(&self, begun: u64) -> Result<()> {
        let first = self.list()?.first;
        if first > begun {
            let message = format!("{self} was taken over: it begins at segment {first}, past segment {begun}");
            return Err(Error::new(Code::Fenced, message));
        }
        Ok(())
    }

    fn record_kind(&self) -> String {
        format!("{:016x}.first", self.topic_id)
    }
}
