//! A look at the command log of one member while its owner may be writing to it.

use std::path::{Path, PathBuf};

use qanat_coordinator_core::command::Proposal;
use qanat_proto::{Code, Error, Result};
use qanat_storage::env::Env;

use super::journal::{self, Row};
use super::state_machine::Snapshot;

/// How much of a log somebody wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// From the oldest row that is kept on: every receipt. Takes as long as the history.
    History,
    /// From the newest snapshot on: the state and the sums of each run. Takes the same time at any age.
    State,
}

/// One step of the history.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    Proposal(Proposal),
    Snapshot(Box<Snapshot>),
}

/// The folder that changes with the log in `folder`. None if there is no log.
///
/// # Errors
/// E0304 for a damaged log.
pub fn folder_to_watch(env: &Env, folder: &Path) -> Result<Option<PathBuf>> {
    Ok(journal::find(env, folder)?.map(|topic| topic.folder_of(0)))
}

/// All that is appended.
pub const EVERYTHING: u64 = u64::MAX;

/// The history in the log in `folder`, each command with the time of its proposal in ms, from the first one or from
/// a snapshot on: the newest, or the first if older rows are gone. Takes no part in writing. None if there is no log.
///
/// Entries from the index `end` on do not count: a member of a larger group may have appended what is never decided. For
/// a group of one, whatever is appended is decided, and `end` is [`EVERYTHING`].
///
/// # Errors
/// E0304 for a damaged log; E0307 for a row of an unknown version; E0602 if this member's disk has less than is
/// decided: others had it before, and soon it will have it, too.
pub fn look(env: &Env, folder: &Path, reach: Reach, end: u64) -> Result<Option<Vec<(i64, Entry)>>> {
    let Some(topic) = journal::find(env, folder)? else { return Ok(None) };
    let partition = topic.partition(0)?;
    let snapshots = journal::snapshots(&topic, &partition)?;
    let first = match reach {
        Reach::History => None,
        Reach::State => snapshots.last().copied(),
    };
    let first = first.unwrap_or_else(|| partition.first_offset());
    let mut history = History { entries: Vec::new(), open: Vec::new(), next: 0, has_begun: first == 0 };
    journal::read(&topic, first, |_, _, row| history.take(row))?;
    if end != EVERYTHING && history.next < end {
        let message = format!("this coordinator's disk holds {} of {end} decided commands", history.next);
        return Err(Error::new(Code::NoQuorum, message).hint("its disk is slow: ask again"));
    }
    history.finish_to(end);
    if !history.has_begun {
        return Err(journal::damaged(&topic, "it has lost its beginning: no snapshot stands for what is gone"));
    }
    Ok(Some(history.entries))
}

struct History {
    entries: Vec<(i64, Entry)>,
    /// Entries that a later row may still void, by index.
    open: Vec<(u64, Option<Proposal>)>,
    /// Index of the next new entry: a snapshot is followed by some that stood before it.
    next: u64,
    /// False until the first snapshot of a log whose beginning is gone.
    has_begun: bool,
}

impl History {
    fn take(&mut self, row: Row) -> Result<()> {
        match row {
            Row::Vote(_) => {}
            Row::Entry(entry) => {
                let index = entry.log_id.index;
                if index < self.next || !self.has_begun {
                    return Ok(());
                }
                self.next = index + 1;
                let proposal = match entry.payload {
                    openraft::EntryPayload::Normal(proposal) => Some(proposal),
                    _ => None,
                };
                self.open.push((index, proposal));
            }
            Row::Truncate(after) => {
                let next = after.map_or(0, |id| id.index + 1);
                self.open.retain(|(index, ..)| *index < next);
                self.next = next;
            }
            Row::Snapshot { meta, machine, .. } => {
                let covered = meta.last_log_id.map_or(0, |id| id.index + 1);
                self.finish_to(covered);
                if covered > self.next {
                    // Sent by a leader in place of entries that this member never had.
                    self.entries.clear();
                }
                self.next = self.next.max(covered);
                self.has_begun = true;
                let at_ms = self.entries.last().map_or(0, |(at_ms, _)| *at_ms);
                self.entries.push((at_ms, Entry::Snapshot(Box::new(Snapshot::parse(&machine)?))));
            }
        }
        Ok(())
    }

    /// Entries below `end` are settled.
    fn finish_to(&mut self, end: u64) {
        let open = std::mem::take(&mut self.open);
        for (index, proposal) in open {
            if index >= end {
                self.open.push((index, proposal));
            } else if let Some(proposal) = proposal {
                self.entries.push((proposal.at_ms, Entry::Proposal(proposal)));
            }
        }
    }
}
