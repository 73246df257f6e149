//! Takeover of a partition by a new owner (P11).
//!
//! ```text
//! new owner                                   old owner (paused, perhaps for ever)
//!   link <segment>.seal, sync the folder        write, sync a group
//!   sync the segment                            marker there?  -> E0306, nothing acknowledged
//!   find the end of its last whole run          marker absent? -> acknowledge: the taker's sync
//!   create the next segment: it records the                       and scan come later and see it
//!   length, and its name can be taken once
//!   cut the one before there
//! ```
//!
//! The first segment of a number wins, and a number that retention has made free again counts for nothing
//! ([`super::listing`]). What the old owner still writes into the sealed one lies past
//! the recorded length, where nobody reads. A taker that is overtaken itself may go on at any time: until it has created
//! the next segment it changes nothing of what a newer one may have decided.

use std::path::Path;
use std::sync::Arc;

use qanat_proto::error::{Code, Error, Result};
use qanat_proto::zoo::{Bug, planted};
use serde::{Deserialize, Serialize};

use super::partition::{Access, Partition, Purpose};
use super::segment::seal_path;
use super::writer::{OwnerToken, Writer};
use super::{document, lock};
use crate::crash_safe;

/// Rounds with an old owner that keeps sealing segments itself. Each costs it a whole segment.
const ROUNDS_MAX: usize = 16;

/// What a takeover decided: the record that whoever assigns partitions keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Takeover {
    pub owner: OwnerToken,
    /// The segment that was sealed; None if the partition had none.
    pub sealed: Option<SealedSegment>,
    /// First offset of the new owner's segment.
    pub end_offset: u64,
}

/// Where a sealed segment ends for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedSegment {
    pub sequence: u64,
    /// Bytes.
    pub length: u64,
}

/// Content of a seal marker.
#[derive(Serialize, Deserialize)]
struct Marker {
    owner: OwnerToken,
}

impl Partition {
    /// Makes `owner` the owner: seals what the one before wrote and begins a segment of its own. Safe to
    /// call again after a crash in its middle. An owner whose disk failed may so take over from itself: what it was
    /// told is durable is, and the rest is found, made durable, or cut.
    ///
    /// # Errors
    /// E0306 if the partition has an owner as new as that, or newer.
    pub fn take_over(&self, owner: OwnerToken) -> Result<Takeover> {
        let mut slot = lock(&self.writer);
        if self.access == Access::Read {
            return Err(self.read_only());
        }
        let is_again = slot.as_ref().is_some_and(|writer| writer.owner == owner && writer.is_lost());
        // Whoever has this token, or a newer one, is not taken over from.
        let least = if is_again { OwnerToken(owner.0.saturating_add(1)) } else { owner };
        // Should it end in a panic, it may have begun a segment as this owner: the next try goes on from there.
        let before = slot.replace(Writer::lost(owner, Error::internal("a takeover stopped")));
        match self.take_over_in_rounds(owner, least) {
            Ok((writer, takeover)) => {
                *slot = Some(writer);
                Ok(takeover)
            }
            Err(error) => {
                // As after a panic.
                *slot =
                    if error.code() == Code::FsyncFailed { Some(Writer::lost(owner, error.clone())) } else { before };
                Err(error)
            }
        }
    }

    fn take_over_in_rounds(&self, owner: OwnerToken, least: OwnerToken) -> Result<(Writer, Takeover)> {
        for _ in 0..ROUNDS_MAX {
            match self.try_take_over(owner, least) {
                // Somebody began the next segment first: look at it and decide again.
                Err(error) if error.code() == Code::Fenced && self.last_owner()? < Some(least) => {}
                taken => return taken,
            }
        }
        Err(Error::new(Code::Fenced, format!("the old owner of {self} does not stop")))
    }

    /// # Errors
    /// E0306 if the last segment on disk has a newer owner.
    pub(super) fn refuse_if_outranked(&self, owner: OwnerToken) -> Result<()> {
        match self.last_owner()? {
            Some(newer) if newer > owner => Err(self.refused(newer, owner)),
            _ => Ok(()),
        }
    }

    /// Another process owns it by now, unless this one does under a newer token than `held`: what it writes is read
    /// here like anybody's.
    pub fn disown(&self, held: OwnerToken) {
        let mut slot = lock(&self.writer);
        if self.access == Access::Shared && slot.as_ref().is_some_and(|writer| writer.owner <= held) {
            *slot = None;
        }
    }

    fn try_take_over(&self, owner: OwnerToken, least: OwnerToken) -> Result<(Writer, Takeover)> {
        let before = self.load(Purpose::Read)?;
        let sealed = before.segments.back().map(|last| last.header.sequence);
        if let Some(last) = before.segments.back() {
            if OwnerToken(last.header.owner) >= least && !planted(Bug::OldOwner) {
                return Err(self.refused(OwnerToken(last.header.owner), owner));
            }
            link_marker(self, last.header.sequence, owner)?;
        }
        let mut loaded = self.load(Purpose::Seal(sealed))?;
        self.install(&mut loaded);
        let end_offset = loaded.end.offset;
        let sealed = sealed.map(|sequence| SealedSegment { sequence, length: loaded.end.position });
        let before = loaded.active.as_ref().map(|active| Arc::clone(&active.file));
        let mut writer = Writer::new(owner, loaded.replay, loaded.active, loaded.end);
        writer.roll(self, owner, None)?;
        if let Some(before) = before {
            // Only now is it decided where it ends. Space that stays reserved is lost, and no more than that.
            let _ = before.set_len(loaded.end.position);
        }
        Ok((writer, Takeover { owner, sealed, end_offset }))
    }

    fn refused(&self, current: OwnerToken, owner: OwnerToken) -> Error {
        let message = format!("{self} belongs to owner {}, owner {} cannot take it over", current.0, owner.0);
        Error::new(Code::Fenced, message)
    }

    /// Whether its disk failed while this process wrote to it.
    pub(super) fn is_lost(&self) -> bool {
        lock(&self.writer).as_ref().is_some_and(Writer::is_lost)
    }

    /// Of the last segment on disk.
    fn last_owner(&self) -> Result<Option<OwnerToken>> {
        Ok(self.load(Purpose::Read)?.segments.back().map(|last| OwnerToken(last.header.owner)))
    }
}

/// Links the marker, or accepts the one that is there from a taker that is not newer.
fn link_marker(partition: &Partition, sequence: u64, owner: OwnerToken) -> Result<()> {
    let path = seal_path(&partition.folder, sequence);
    match crash_safe::write_new(&partition.env, &path, &document::to_bytes(&Marker { owner })) {
        Ok(()) => Ok(()),
        Err(crash_safe::Error::Exists(_)) => match read_marker(partition, sequence)? {
            Some(other) if other > owner => Err(partition.refused(other, owner)),
            _ => Ok(()),
        },
        Err(e) => Err(e.into()),
    }
}

/// Who sealed a segment, if anybody did.
pub(super) fn read_marker(partition: &Partition, sequence: u64) -> Result<Option<OwnerToken>> {
    let path: &Path = &seal_path(&partition.folder, sequence);
    Ok(document::read::<Marker>(partition.env.disk.as_ref(), path)?.map(|marker| marker.owner))
}
