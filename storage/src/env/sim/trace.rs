//! A recorded run of a simulated disk, and every state in which a power failure could have left it.
//!
//! This is what exhaustive crash tests of the log, the checkpoint store and crash-safe files use:
//!
//! ```
//! # use std::path::Path;
//! # use qanat_storage::env::{Disk, OpenMode, sim::SimDisk};
//! let disk = SimDisk::new(1);
//! disk.record();
//! let file = disk.open(Path::new("journal"), OpenMode::CreateNew)?;
//! disk.sync_dir(Path::new("/"))?;
//! file.write_all_at(b"one", 0)?;
//! file.sync_data()?;
//! disk.mark(1); // "one" is acknowledged from here on
//! for state in disk.take_trace().crash_states() {
//!     let path = Path::new("journal");
//!     if state.last_mark() == Some(1) {
//!         assert_eq!(state.disk.metadata(path)?.len, 3, "{state}");
//!     }
//! }
//! # Ok::<(), std::io::Error>(())
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use super::disk::SimDisk;
use super::volume::{Change, CrashPlan, Effect, Volume, sectors};

/// One call that changed a disk, or failed in a way that matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Create {
        path: PathBuf,
    },
    CreateDir {
        path: PathBuf,
    },
    Write {
        path: PathBuf,
        offset: u64,
        len: u64,
    },
    SetLen {
        path: PathBuf,
        len: u64,
    },
    Allocate {
        path: PathBuf,
        len: u64,
    },
    Sync {
        path: PathBuf,
    },
    SyncDir {
        path: PathBuf,
    },
    FailedSync {
        path: PathBuf,
    },
    Link {
        from: PathBuf,
        to: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    RemoveDir {
        path: PathBuf,
    },
    FlipBit {
        path: PathBuf,
        bit: u64,
    },
    Crash(CrashPlan),
    /// Not an effect: the test's own note, by [`SimDisk::mark`].
    Mark(u64),
}

#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) operation: Operation,
    pub(super) effects: Vec<Effect>,
}

/// What a disk was when recording began, and every operation since.
#[derive(Clone, Debug)]
pub struct Trace {
    pub(super) start: Volume,
    pub(super) seed: u64,
    pub(super) steps: Vec<Step>,
}

impl Trace {
    /// The operations in order, to assert on (that a file is synced before it is linked, say).
    pub fn operations(&self) -> impl ExactSizeIterator<Item = &Operation> {
        self.steps.iter().map(|step| &step.operation)
    }

    /// The states that a power failure could leave, for every prefix of the trace (the empty and the
    /// whole one included) and each of these survivals of its unsynced changes:
    ///
    /// 1. none survives;
    /// 2. all survive;
    /// 3. each one alone is lost, and 4. each one alone survives (the newest [`ALONE_MAX`] of them);
    /// 5. the last write is torn: only its first, or only its last, n sectors survive, for every n (the
    ///    first and last [`TORN_MAX`] places where it is longer), and its last sector only in half.
    ///
    /// Why this is enough: 1 finds every acknowledgement that came before its sync, 3 and 4 every pair of
    /// changes whose order was taken for granted (a rename before its data, a footer before its body),
    /// 5 every reader that trusts a length or a checksum too early. A fault that needs three changes to be
    /// reordered in one way is left to [`Trace::random_crash_states`].
    ///
    /// Cost: with `n` operations and at most `p` unsynced changes at once, at most
    /// `n * (2 + 2 * min(p, ALONE_MAX) + 4 * TORN_MAX + 1)` states; each costs a replayed operation and a
    /// copy of the disk that shares its pages.
    pub fn crash_states(&self) -> CrashStates<'_> {
        CrashStates::new(self, None)
    }

    /// For every prefix, `count` states in which an arbitrary part of what was not synced survives
    /// ([`CrashPlan::Arbitrary`]), determined by `seed`.
    pub fn random_crash_states(&self, seed: u64, count: usize) -> CrashStates<'_> {
        CrashStates::new(self, Some((seed, count)))
    }
}

/// How many unsynced changes are lost, or survive, alone.
pub const ALONE_MAX: usize = 32;

/// How many places at the start, and how many at the end, a long write is torn at.
pub const TORN_MAX: usize = 32;

/// A disk after a power failure.
pub struct CrashState {
    /// As the machine finds it. Independent of every other state.
    pub disk: SimDisk,
    /// How many operations of the trace had happened.
    pub prefix: usize,
    /// What of the unsynced changes survived.
    pub plan: CrashPlan,
    last_operation: Option<Operation>,
    marks: Vec<u64>,
}

impl CrashState {
    /// The marks set before the failure, in order.
    pub fn marks(&self) -> &[u64] {
        &self.marks
    }

    pub fn last_mark(&self) -> Option<u64> {
        self.marks.last().copied()
    }
}

impl fmt::Display for CrashState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "power lost after operation {} ({:?}), surviving: {:?}", self.prefix, self.last_operation, self.plan)
    }
}

/// Iterator over the crash states of a trace; states of one prefix come together, shorter prefixes first.
pub struct CrashStates<'a> {
    trace: &'a Trace,
    volume: Volume,
    prefix: usize,
    marks: Vec<u64>,
    random: Option<(u64, usize)>,
    plans: std::vec::IntoIter<CrashPlan>,
}

impl<'a> CrashStates<'a> {
    fn new(trace: &'a Trace, random: Option<(u64, usize)>) -> Self {
        let volume = trace.start.clone();
        let mut states = Self { trace, volume, prefix: 0, marks: Vec::new(), random, plans: Vec::new().into_iter() };
        states.plans = states.plans_here().into_iter();
        states
    }

    fn plans_here(&self) -> Vec<CrashPlan> {
        if let Some((seed, count)) = self.random {
            let seed_of = |i: usize| seed.wrapping_add((self.prefix as u64) << 24).wrapping_add(i as u64);
            return (0..count).map(|i| CrashPlan::Arbitrary { seed: seed_of(i) }).collect();
        }
        let pending = self.volume.pending();
        let mut plans = vec![CrashPlan::Nothing];
        if pending.is_empty() {
            return plans;
        }
        plans.push(CrashPlan::Everything);
        if pending.len() > 1 {
            for index in pending.len().saturating_sub(ALONE_MAX)..pending.len() {
                plans.push(CrashPlan::AllBut(index));
                plans.push(CrashPlan::Only(index));
            }
        }
        let last_write = pending.iter().rev().find_map(|unit| match &unit.change {
            Change::Write { offset, bytes } => Some((*offset, bytes.len())),
            Change::Resize(_) | Change::Reserve(_) | Change::Names(_) => None,
        });
        if let Some((offset, len)) = last_write {
            let sectors = sectors(offset, len);
            for (index, sector) in sectors.iter().enumerate() {
                // The place between this sector and the next one, unless it is far from both ends.
                let near = index < TORN_MAX || index + TORN_MAX >= sectors.len();
                if near && sector.end < len {
                    plans.push(CrashPlan::LastTorn { kept: 0..sector.end });
                    plans.push(CrashPlan::LastTorn { kept: sector.end..len });
                }
            }
            if let Some(sector) = sectors.last().filter(|sector| sector.len() > 1) {
                plans.push(CrashPlan::LastTorn { kept: 0..sector.start + sector.len() / 2 });
            }
        }
        plans
    }
}

impl Iterator for CrashStates<'_> {
    type Item = CrashState;

    fn next(&mut self) -> Option<CrashState> {
        loop {
            if let Some(plan) = self.plans.next() {
                let last_operation = self.prefix.checked_sub(1).and_then(|last| self.trace.steps.get(last));
                return Some(CrashState {
                    disk: SimDisk::from_volume(self.volume.crashed(&plan), self.trace.seed),
                    prefix: self.prefix,
                    plan,
                    last_operation: last_operation.map(|step| step.operation.clone()),
                    marks: self.marks.clone(),
                });
            }
            let step = self.trace.steps.get(self.prefix)?;
            self.prefix += 1;
            if let Operation::Mark(mark) = step.operation {
                self.marks.push(mark);
            }
            for effect in &step.effects {
                self.volume.apply(effect, &BTreeSet::new());
            }
            self.plans = self.plans_here().into_iter();
        }
    }
}
