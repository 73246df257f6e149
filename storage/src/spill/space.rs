//! The runs of one operator of one subtask.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use qanat_proto::error::Result;

use super::merge::merge;
use super::run::{Run, RunWriter, hash_of, next_entry};
use super::{Entries, Folder, Keys};
use crate::env::thread;

/// So many runs of a tier are merged into one of the next.
const FAN_IN: usize = 4;

/// Keys and their entries. Cheap to clone; all of it goes with the last clone.
#[derive(Clone)]
pub struct Space(pub(super) Arc<Inner>);

pub(super) struct Inner {
    /// Names of its runs begin with it.
    number: u64,
    next: AtomicU64,
    /// The newest first.
    pub(super) runs: Mutex<Vec<Arc<Run>>>,
    /// Held by the one merge at a time.
    merging: Mutex<()>,
    folder: Arc<Folder>,
}

impl Space {
    pub(super) fn new(folder: Arc<Folder>, number: u64) -> Self {
        let (next, runs, merging) = (AtomicU64::new(0), Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { number, next, runs, merging, folder }))
    }

    fn create(&self, tier: u32, entries: u64) -> Result<RunWriter> {
        let Folder { env, path } = self.0.folder.as_ref();
        let name = format!("{}-{}", self.0.number, self.0.next.fetch_add(1, Ordering::AcqRel));
        RunWriter::create(env, &path.join(name), tier, entries)
    }

    /// Puts entries in the place of those with the same keys, and takes those away that are gone. A key that stands in
    /// `entries` twice has what it has last.
    ///
    /// # Errors
    /// If the disk is full, and what else it says.
    pub fn write(&self, entries: &Entries) -> Result<()> {
        let mut sorted: Vec<_> = entries.iter().map(|(key, value)| (hash_of(key), key, value)).collect();
        // Stable: the last one of a key stays the last.
        sorted.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
        let mut writer = self.create(0, sorted.len() as u64)?;
        let mut sorted = sorted.into_iter().peekable();
        while let Some((hash, key, value)) = sorted.next() {
            if sorted.peek().is_none_or(|next| next.1 != key) {
                writer.push(hash, key, value)?;
            }
        }
        if let Some(run) = writer.finish()? {
            thread::lock(&self.0.runs).insert(0, Arc::new(run));
        }
        Ok(())
    }

    /// The entries of those of the keys that have one, in no particular order. Each key is asked for once.
    ///
    /// # Errors
    /// What the disk says, and E0301 if it does not give what it was given.
    pub fn read(&self, keys: &Keys) -> Result<Entries> {
        let mut wanted: Vec<(u64, &[u8])> = keys.iter().map(|key| (hash_of(key), key)).collect();
        // So that keys of one block come one after the other.
        wanted.sort_unstable();
        let runs = thread::lock(&self.0.runs).clone();
        let mut found = Entries::default();
        let (mut buffer, mut ranges) = (Vec::new(), Vec::new());
        for run in runs {
            let mut in_buffer = None;
            let mut missing = Vec::with_capacity(wanted.len());
            for (hash, key) in wanted {
                let block = if run.may_have(hash) { run.block_of(hash) } else { None };
                let Some(block) = block else {
                    missing.push((hash, key));
                    continue;
                };
                if in_buffer != Some(block) {
                    run.read(block, 0, &mut buffer, &mut ranges)?;
                    in_buffer = Some(block);
                }
                let range = ranges.first().cloned().unwrap_or_default();
                let mut entries = buffer.get(range).unwrap_or_default();
                let mut is_known = false;
                while !entries.is_empty() {
                    let (of_entry, value) = next_entry(&mut entries).ok_or_else(|| run.damaged())?;
                    if of_entry == key {
                        is_known = true;
                        if let Some(value) = value {
                            found.put(key, |bytes| bytes.extend_from_slice(value));
                        }
                        break;
                    }
                }
                if !is_known {
                    missing.push((hash, key));
                }
            }
            wanted = missing;
            if wanted.is_empty() {
                break;
            }
        }
        Ok(found)
    }

    /// Does one merge that is due; false if none is, or another thread is at one.
    ///
    /// # Errors
    /// As [`Space::read`] and [`Space::write`]; nothing has changed then.
    pub fn merge(&self) -> Result<bool> {
        let Ok(_only) = self.0.merging.try_lock() else { return Ok(false) };
        let due = {
            let runs = thread::lock(&self.0.runs);
            // Tiers rise with age, so that those of one tier stand side by side.
            let of_tier = |tier: u32| runs.iter().filter(|run| run.tier == tier).count();
            let tier = runs.iter().map(|run| run.tier).find(|tier| of_tier(*tier) >= FAN_IN);
            tier.map(|tier| {
                let due: Vec<Arc<Run>> = runs.iter().filter(|run| run.tier == tier).cloned().collect();
                let reaches_oldest = runs.last().is_some_and(|run| run.tier == tier);
                (tier, due, reaches_oldest)
            })
        };
        let Some((tier, due, reaches_oldest)) = due else { return Ok(false) };
        let writer = self.create(tier + 1, due.iter().map(|run| run.entries).sum())?;
        let merged = merge(&due, reaches_oldest, writer)?;
        let mut runs = thread::lock(&self.0.runs);
        let is_merged = |run: &Arc<Run>| due.iter().any(|other| Arc::ptr_eq(run, other));
        let first = runs.iter().position(is_merged).unwrap_or(0);
        runs.retain(|run| !is_merged(run));
        if let Some(run) = merged {
            let place = first.min(runs.len());
            runs.insert(place, Arc::new(run));
        }
        Ok(true)
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        thread::lock(&self.0.runs).iter().map(|run| run.bytes()).sum()
    }
}
