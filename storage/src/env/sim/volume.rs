//! The state of a simulated disk: what programs see, what would survive, and what lies between.
//!
//! Every change is a [`Unit`] that is visible at once and *pending* until its file or folder is synced.
//! A crash keeps the durable state and whatever part of the pending units its [`CrashPlan`] says.
//!
//! The model is as harsh as POSIX allows, harsher than any one file system: pending units of different
//! files and folders reach the disk in any order; syncing a file says nothing of its name; a rename
//! within a folder is atomic, one across two folders is two changes, each synced with its own folder.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::ops::Range;
use std::sync::Arc;

use super::contents::Contents;
use super::{Random, SECTOR};

/// Identity of a file or folder, whatever its names.
pub(super) type Node = u64;

/// The folder in which every path starts.
pub(super) const ROOT: Node = 0;

/// Which unsynced changes survive a crash. Changes are counted in the order in which they were made;
/// a change is one write, one new length, one reservation, or one change of names in one folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CrashPlan {
    /// No unsynced change survives.
    Nothing,
    /// Every change survives, as if all had been synced.
    Everything,
    /// All but the one at this index survive.
    AllBut(usize),
    /// The one at this index survives alone.
    Only(usize),
    /// All survive, but of the last write only these bytes (counted from the write's own start).
    LastTorn { kept: Range<usize> },
    /// Each change survives or not, and of each write any subset of its sectors, the last of them perhaps
    /// only in its first bytes; a file may also have become longer without its bytes.
    Arbitrary { seed: u64 },
}

/// One change that reaches the disk wholly, in part (writes only), or not at all.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub(super) node: Node,
    pub(super) change: Change,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Write {
        offset: u64,
        bytes: Arc<[u8]>,
    },
    Resize(u64),
    Reserve(u64),
    /// Names of one folder, set or removed together.
    Names(Vec<(OsString, Option<Node>)>),
}

/// What an operation does to the volume. Replaying a list of them gives the same volume again.
#[derive(Clone, Debug)]
pub(super) enum Effect {
    NewFile(Node),
    NewFolder(Node),
    Change(Unit),
    Sync(Node),
    /// A sync that failed: of the node's pending units, those marked are forgotten for good although
    /// they stay visible, and the others have reached the disk.
    FailedSync {
        node: Node,
        lost: Vec<bool>,
    },
    /// Rot on the medium: no sync is needed, nothing undoes it.
    FlipBit {
        node: Node,
        bit: u64,
    },
    Touch {
        node: Node,
        modified_ms: i64,
    },
    Crash(CrashPlan),
}

#[derive(Clone, Debug)]
pub(super) enum Body {
    File(Contents),
    Folder(BTreeMap<OsString, Node>),
}

#[derive(Clone, Debug)]
struct State {
    visible: Body,
    durable: Body,
    modified_ms: i64,
}

#[derive(Clone, Debug)]
pub(super) struct Volume {
    nodes: BTreeMap<Node, State>,
    pending: Vec<Unit>,
    next: Node,
    syncs_of_folders: u64,
}

impl Default for Volume {
    fn default() -> Self {
        let mut volume = Self { nodes: BTreeMap::new(), pending: Vec::new(), next: ROOT, syncs_of_folders: 0 };
        volume.add(ROOT, Body::Folder(BTreeMap::new()));
        volume
    }
}

impl Volume {
    /// The identity the next new file or folder gets.
    pub(super) fn next_node(&self) -> Node {
        self.next
    }

    pub(super) fn body(&self, node: Node) -> Option<&Body> {
        self.nodes.get(&node).map(|state| &state.visible)
    }

    pub(super) fn file(&self, node: Node) -> Option<&Contents> {
        match self.body(node) {
            Some(Body::File(contents)) => Some(contents),
            Some(Body::Folder(_)) | None => None,
        }
    }

    #[cfg(test)]
    pub(super) fn node_count(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn modified_ms(&self, node: Node) -> i64 {
        self.nodes.get(&node).map_or(0, |state| state.modified_ms)
    }

    /// The changes that no sync covers yet, oldest first.
    pub(super) fn pending(&self) -> &[Unit] {
        &self.pending
    }

    pub(super) fn pending_of(&self, node: Node) -> usize {
        self.pending.iter().filter(|unit| unit.node == node).count()
    }

    /// Space taken by files that have a name or are among `open`, in pages.
    pub(super) fn page_count(&self, open: &BTreeSet<Node>) -> u64 {
        let reachable = self.reachable(false, open);
        reachable.iter().filter_map(|node| self.file(*node)).map(Contents::page_count).sum()
    }

    pub(super) fn apply(&mut self, effect: &Effect, open: &BTreeSet<Node>) {
        match effect {
            Effect::NewFile(node) => self.add(*node, Body::File(Contents::default())),
            Effect::NewFolder(node) => self.add(*node, Body::Folder(BTreeMap::new())),
            Effect::Change(unit) => {
                if let Some(state) = self.nodes.get_mut(&unit.node) {
                    keep_all(&mut state.visible, &unit.change);
                    self.pending.push(unit.clone());
                }
            }
            Effect::Sync(node) => self.settle(*node, &[]),
            Effect::FailedSync { node, lost } => self.settle(*node, lost),
            Effect::Crash(plan) => *self = self.crashed(plan),
            Effect::FlipBit { node, bit } => {
                if let Some(State { visible: Body::File(visible), durable: Body::File(durable), .. }) =
                    self.nodes.get_mut(node)
                {
                    visible.flip_bit(*bit);
                    durable.flip_bit(*bit);
                }
            }
            Effect::Touch { node, modified_ms } => {
                if let Some(state) = self.nodes.get_mut(node) {
                    state.modified_ms = *modified_ms;
                }
            }
        }
        if let Effect::Sync(node) = effect
            && matches!(self.body(*node), Some(Body::Folder(_)))
        {
            self.syncs_of_folders += 1;
            if self.syncs_of_folders.is_multiple_of(COLLECT_EVERY) {
                self.collect(open);
            }
        }
    }

    /// The volume as a machine finds it after losing power now.
    pub(super) fn crashed(&self, plan: &CrashPlan) -> Self {
        let mut after = self.clone();
        let pending = std::mem::take(&mut after.pending);
        let last_write = pending.iter().rposition(|unit| matches!(unit.change, Change::Write { .. }));
        let mut random = Random::new(0);
        if let CrashPlan::Arbitrary { seed } = plan {
            random = Random::new(*seed);
        }
        for (index, unit) in pending.iter().enumerate() {
            let Some(state) = after.nodes.get_mut(&unit.node) else { continue };
            match plan {
                CrashPlan::Nothing => {}
                CrashPlan::Everything => keep_all(&mut state.durable, &unit.change),
                CrashPlan::AllBut(lost) if index == *lost => {}
                CrashPlan::AllBut(_) => keep_all(&mut state.durable, &unit.change),
                CrashPlan::Only(kept) if index != *kept => {}
                CrashPlan::Only(_) => keep_all(&mut state.durable, &unit.change),
                CrashPlan::LastTorn { kept } if last_write == Some(index) => {
                    keep_part(&mut state.durable, &unit.change, kept.clone());
                }
                CrashPlan::LastTorn { .. } => keep_all(&mut state.durable, &unit.change),
                CrashPlan::Arbitrary { .. } => keep_arbitrary(&mut state.durable, &unit.change, &random),
            }
        }
        for state in after.nodes.values_mut() {
            state.visible = state.durable.clone();
        }
        after.collect(&BTreeSet::new());
        after
    }

    fn add(&mut self, node: Node, body: Body) {
        self.nodes.insert(node, State { visible: body.clone(), durable: body, modified_ms: 0 });
        self.next = self.next.max(node + 1);
    }

    /// Makes the pending units of a node durable, except those marked in `lost`, and forgets all of them.
    fn settle(&mut self, node: Node, lost: &[bool]) {
        let Some(state) = self.nodes.get_mut(&node) else { return };
        let mut lost = lost.iter();
        self.pending.retain(|unit| {
            if unit.node != node {
                return true;
            }
            if lost.next().is_none_or(|lost| !lost) {
                keep_all(&mut state.durable, &unit.change);
            }
            false
        });
    }

    /// Drops files and folders that no name, no possible crash and no handle leads to.
    fn collect(&mut self, open: &BTreeSet<Node>) {
        let mut roots = open.clone();
        for unit in &self.pending {
            if let Change::Names(names) = &unit.change {
                roots.extend(names.iter().filter_map(|(_, node)| *node));
            }
        }
        let reachable = self.reachable(true, &roots);
        self.nodes.retain(|node, _| reachable.contains(node));
        self.pending.retain(|unit| reachable.contains(&unit.node));
    }

    /// Everything that the root or one of `also` leads to by visible (and, if wanted, durable) names.
    fn reachable(&self, by_durable_names: bool, also: &BTreeSet<Node>) -> BTreeSet<Node> {
        let mut seen = BTreeSet::new();
        let mut open: Vec<Node> = also.iter().copied().chain([ROOT]).collect();
        while let Some(node) = open.pop() {
            let Some(state) = self.nodes.get(&node) else { continue };
            if !seen.insert(node) {
                continue;
            }
            if let Body::Folder(names) = &state.visible {
                open.extend(names.values());
            }
            if let Body::Folder(names) = &state.durable
                && by_durable_names
            {
                open.extend(names.values());
            }
        }
        seen
    }
}

/// How many syncs of folders pass between two searches for what can be dropped.
const COLLECT_EVERY: u64 = 256;

fn keep_all(body: &mut Body, change: &Change) {
    match (body, change) {
        (Body::File(contents), Change::Write { offset, bytes }) => contents.write(bytes, *offset),
        (Body::File(contents), Change::Resize(len)) => contents.resize(*len),
        (Body::File(contents), Change::Reserve(len)) => contents.reserve(*len),
        (Body::Folder(names), Change::Names(changes)) => {
            for (name, node) in changes {
                match node {
                    Some(node) => {
                        names.insert(name.clone(), *node);
                    }
                    None => {
                        names.remove(name);
                    }
                }
            }
        }
        // A change is only ever made for the kind of its node.
        (Body::File(_), Change::Names(_)) | (Body::Folder(_), _) => {}
    }
}

/// Keeps bytes `kept` of a write. The length covers what was kept.
fn keep_part(body: &mut Body, change: &Change, kept: Range<usize>) {
    if let (Body::File(contents), Change::Write { offset, bytes }) = (body, change)
        && let Some(part) = bytes.get(kept.clone())
    {
        contents.write(part, offset + kept.start as u64);
    }
}

fn keep_arbitrary(body: &mut Body, change: &Change, random: &Random) {
    let Change::Write { offset, bytes } = change else {
        if random.coin() {
            keep_all(body, change);
        }
        return;
    };
    // A third of the writes survive wholly and a third not at all, so that long traces still meet
    // states in which most is as it was written.
    match random.index(3) {
        0 => return,
        1 => return keep_all(body, change),
        _ => {}
    }
    let sectors = sectors(*offset, bytes.len());
    let last = sectors.len().saturating_sub(1);
    for (index, sector) in sectors.into_iter().enumerate() {
        if random.coin() {
            // Some disks do not even keep a sector whole.
            let torn = index == last && random.index(4) == 0;
            let end = if torn { sector.start + random.index(sector.len()) } else { sector.end };
            keep_part(body, change, sector.start..end);
        }
    }
    if let Body::File(contents) = body
        && random.coin()
    {
        contents.extend(offset + bytes.len() as u64);
    }
}

/// A write's bytes cut where the disk's sectors begin.
pub(super) fn sectors(offset: u64, len: usize) -> Vec<Range<usize>> {
    let mut cuts = Vec::new();
    let mut start = 0;
    while start < len {
        let within = (offset.wrapping_add(start as u64) % SECTOR as u64) as usize;
        let end = len.min(start + SECTOR - within);
        cuts.push(start..end);
        start = end;
    }
    cuts
}
