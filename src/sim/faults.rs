//! What goes wrong in a simulation: which faults, when, and to whom, all drawn from its seed.

use qanat_storage::env::sim::Random;
use serde::Serialize;

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FaultKind {
    /// An executor's process dies, and is started again.
    KillExecutor,
    /// A coordinator's process dies, and is started again.
    KillCoordinator,
    /// A coordinator's machine loses power: what was not synced may be gone.
    PowerOff,
    /// The shared storage loses power, and all processes with it.
    StoragePowerOff,
    /// A machine comes back with an empty disk; a coordinator is another one then, which takes the place of the lost one.
    DiskLost,
    /// A bit of a coordinator's log flips while it is away: it has to notice, and its disk is given up.
    BitFlip,
    /// An executor stands still and goes on later: a zombie wakes.
    PauseExecutor,
    PauseCoordinator,
    /// Two machines do not hear each other.
    Partition,
    /// One machine hears nobody, and nobody hears it.
    CutOff,
    /// One machine does not hear another one, which hears it.
    OneWay,
    /// Messages between two machines take up to a second.
    SlowLink,
    /// Messages between two machines wait, and then come all at once.
    HeldLink,
    /// A wall clock is set, up to an hour forward or back.
    ClockJump,
    /// A coordinator's own disk has no room.
    DiskFull,
    /// The shared storage has no room.
    StorageFull,
    /// A sync of a file fails on a coordinator's own disk.
    SyncFails,
    /// A sync of a file fails in the shared storage.
    StorageSyncFails,
    /// Syncs on a coordinator's own disk take up to seconds.
    SlowDisk,
    /// Syncs of one process in the shared storage take up to seconds.
    SlowStorage,
}

impl FaultKind {
    pub(crate) const ALL: [Self; 20] = [
        Self::KillExecutor,
        Self::KillCoordinator,
        Self::PowerOff,
        Self::StoragePowerOff,
        Self::DiskLost,
        Self::BitFlip,
        Self::PauseExecutor,
        Self::PauseCoordinator,
        Self::Partition,
        Self::CutOff,
        Self::OneWay,
        Self::SlowLink,
        Self::HeldLink,
        Self::ClockJump,
        Self::DiskFull,
        Self::StorageFull,
        Self::SyncFails,
        Self::StorageSyncFails,
        Self::SlowDisk,
        Self::SlowStorage,
    ];

    /// As it is written on the command line.
    pub(crate) fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self).map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether it is about a disk, of which there is one, or the storage.
    pub(super) fn is_of_disk(self) -> bool {
        matches!(self, Self::DiskFull | Self::SyncFails | Self::SlowDisk | Self::SlowStorage) || self.is_of_storage()
    }

    pub(super) fn is_of_storage(self) -> bool {
        matches!(self, Self::StorageFull | Self::StorageSyncFails)
    }

    /// Whether processes may end by themselves for it, or log errors: the one whose own disk it is, or all.
    pub(super) fn excuses(self) -> Option<Excused> {
        match self {
            Self::DiskFull | Self::SyncFails => Some(Excused::Machine),
            Self::StorageFull | Self::StorageSyncFails => Some(Excused::All),
            _ => None,
        }
    }
}

/// Who may end by itself for a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excused {
    Machine,
    All,
}

/// What a user does meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Wish {
    Rescale,
    /// Stop, with a last epoch or at once, and resume.
    Restart,
    Savepoint,
    /// Take back what was written after some epoch, and go on from there.
    Rollback,
    /// Take an executor out of use, and back.
    Drain,
}

/// One planned fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    pub(super) at_ms: u64,
    pub(super) lasts_ms: u64,
    /// Which machine, of those that it may happen to, and which other one.
    pub(super) which: u64,
    pub(super) other: u64,
    /// How much, where that is a question.
    pub(super) size: u64,
}

/// Something the user does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Action {
    pub(super) wish: Wish,
    pub(super) at_ms: u64,
    pub(super) which: u64,
    pub(super) size: u64,
}

/// The whole of a seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) coordinators: usize,
    pub(super) executors: usize,
    pub(super) slots: u32,
    pub(super) workers: usize,
    pub(super) parallelism: u32,
    pub(super) interval_ms: u64,
    /// An epoch that is not claimed by then is given up.
    pub(super) timeout_ms: u64,
    pub(super) faults: Vec<Fault>,
    pub(super) actions: Vec<Action>,
    /// From then on nothing goes wrong any more.
    pub(super) heals_ms: u64,
}

/// When the first fault may come: a cluster that is just being made has its own share of them.
const BEGINS_MS: u64 = 300;
const FAULTS_MAX: u64 = 14;
const ACTIONS_MAX: u64 = 4;

impl Plan {
    /// What a seed comes to with these kinds of faults. Of them each seed has some: rare meetings of two come sooner
    /// so than among all.
    pub(super) fn of(seed: u64, kinds: &[FaultKind]) -> Self {
        let random = Random::new(seed);
        let coordinators = [1, 3, 3, 3, 5][random.index(5)];
        let executors = usize::try_from(random.between(1, 4)).unwrap_or(1);
        let fires_ms = random.between(1_000, 5_000);
        let own: Vec<FaultKind> = kinds.iter().copied().filter(|_| random.once_in(2)).collect();
        let own = if own.is_empty() { kinds.to_vec() } else { own };
        let mut faults = Vec::new();
        if !own.is_empty() {
            for _ in 0..random.between(1, FAULTS_MAX) {
                let kind = own[random.index(own.len())];
                let at_ms = random.between(BEGINS_MS, fires_ms);
                let lasts_ms = match random.below(3) {
                    0 => random.between(1, 100),
                    1 => random.between(100, 1_500),
                    _ => random.between(1_000, 4_000),
                };
                let (which, other, size) = (random.draw(), random.draw(), random.draw());
                faults.push(Fault { kind, at_ms, lasts_ms, which, other, size });
            }
        }
        let actions = if kinds.is_empty() { 0 } else { random.below(ACTIONS_MAX + 1) };
        let wishes = [Wish::Rescale, Wish::Restart, Wish::Savepoint, Wish::Rollback, Wish::Drain];
        let mut actions: Vec<Action> = (0..actions)
            .map(|_| Action {
                wish: wishes[random.index(wishes.len())],
                at_ms: random.between(BEGINS_MS, fires_ms),
                which: random.draw(),
                size: random.draw(),
            })
            .collect();
        actions.sort_by_key(|action| action.at_ms);
        faults.sort_by_key(|fault| fault.at_ms);
        let heals_ms = faults.iter().map(|fault| fault.at_ms + fault.lasts_ms).max().unwrap_or(0).max(fires_ms);
        Self {
            coordinators,
            executors,
            slots: u32::try_from(random.between(2, 4)).unwrap_or(2),
            workers: 1 + random.index(3),
            parallelism: u32::try_from(random.between(1, 4)).unwrap_or(1),
            interval_ms: [50, 100, 200, 500][random.index(4)],
            timeout_ms: [1_000, 5_000, 60_000][random.index(3)],
            faults,
            actions,
            heals_ms,
        }
    }

    /// Only some of the faults and actions, by their numbers: what is left when a failure is made smaller.
    pub(super) fn keep(mut self, kept: &[usize]) -> Self {
        let count = self.faults.len();
        let numbered = |index: &mut usize| {
            *index += 1;
            *index - 1
        };
        let (mut at, mut act) = (0, count);
        self.faults.retain(|_| kept.contains(&numbered(&mut at)));
        self.actions.retain(|_| kept.contains(&numbered(&mut act)));
        self
    }

    /// How many faults and actions there are.
    pub(super) fn events(&self) -> usize {
        self.faults.len() + self.actions.len()
    }
}
