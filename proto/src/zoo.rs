//! Planted bugs: each undoes one rule, so that whoever claims to find broken rules can be asked to.
//!
//! They exist only with the feature `zoo`, which no shipped binary has; without it [`planted`] is `false` at compile
//! time. One at most is planted at a time, in the whole process.

macro_rules! bugs {
    ($($(#[doc = $about:literal])+ $bug:ident: $rule:literal,)+) => {
        /// A bug that can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Bug {
            /// None of them.
            None,
            $($(#[doc = $about])+ $bug,)+
        }

        impl Bug {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$bug),+];

            /// The rule of the epoch protocol that it undoes, or else the invariant that it breaks.
            pub fn rule(self) -> &'static str {
                match self {
                    Self::None => "",
                    $(Self::$bug => $rule,)+
                }
            }

            /// What it does, in a sentence.
            pub fn about(self) -> &'static str {
                match self {
                    Self::None => "",
                    $(Self::$bug => concat!($($about),+).trim_ascii(),)+
                }
            }
        }
    };
}

bugs! {
    /// A generation that has ended in a process is built there again.
    BuildTwice: "P1",
    /// A process takes messages that were meant for another start of it.
    AnyStart: "P1",
    /// An epoch is claimed whatever its edges say.
    UnbalancedEdges: "P1",
    /// An executor takes messages of any generation for its own.
    AnyToken: "P2",
    /// A leader takes what an older generation says for news of this one.
    OldReports: "P2",
    /// An executor says that an epoch is committed before it is.
    CommittedEarly: "P2",
    /// A permit is given out with the proposal of its claim.
    CommitBeforeClaim: "P2",
    /// Objects of all generations share their names.
    NamesWithoutGeneration: "P3",
    /// A leader numbers epochs from the restored one on, and any number may be claimed.
    AnyEpoch: "P4",
    /// An epoch may be claimed before the commit of the one before is recorded.
    ClaimBeforeCommit: "P4",
    /// What was reported is forgotten, and not said again to another leader.
    ForgetReports: "P4",
    /// A generation restores the last epoch whose commit is recorded.
    RestoreCommitted: "P5",
    /// The commit of the restored epoch is not replayed.
    SkipReplay: "P5",
    /// A leader restores whatever manifest it reads first.
    OldManifest: "P5",
    /// A clean-up comes before the replay, and keeps nothing of what the restored manifest names.
    AbortAll: "P6",
    /// A clean-up takes what newer generations of its job have staged.
    AbortHigher: "P6",
    /// A clean-up takes what other jobs have staged.
    OtherJobs: "P6",
    /// A job ends without waiting for the commit of its last claim.
    EndEarly: "P7",
    /// A claim is accepted after the job was closed.
    ClaimAfterClose: "P7",
    /// A stop that was recorded does not make the next claim the last one.
    StopForgotten: "P7",
    /// The time of an epoch counts while the commit before it is pending.
    TimeFromTrigger: "P8",
    /// A commit that takes too long is recorded as done.
    GiveUpCommit: "P8",
    /// The commit of an earlier epoch is taken for the one that is under way.
    LateCommit: "P8",
    /// Whoever restores epoch 0 looks again where its sources begin.
    ResolveAgain: "P9",
    /// Numbers of withdrawn epochs are used again.
    ReuseEpochs: "P10",
    /// A generation goes on, and claims, without taking back what a rollback named.
    SkipWithdrawal: "P10",
    /// An owner of the log acknowledges without looking whether its segment was sealed.
    IgnoreSeal: "P11",
    /// A reader takes what another process has written for synced.
    ReadUnsynced: "P11",
    /// Recovery keeps the whole frames of a torn run.
    TornRuns: "P11",
    /// A new segment does not remember the commits of those before.
    ForgetCommits: "P12",
    /// A combined watermark steps back when an input that wakes is slower.
    WatermarkBack: "P13",
    /// A combined watermark passes inputs that are active.
    PassActive: "P13",
    /// A restored operator begins without a watermark.
    RestoreWithoutTime: "P13",
    /// The last claim is retired with those before it.
    RetireLast: "P14",
    /// A savepoint does not keep its epoch.
    LoseSavepoint: "P14",
    /// What the current generation has made is collected unless a manifest names it.
    CollectCurrent: "P14",
    /// What a retired manifest names is collected, though a live one names it as well.
    CollectShared: "P14",
    /// A source's rows are kept for the newest epoch alone.
    RetainNewest: "P15",
    /// A barrier is complete when the first channel has delivered it.
    BarrierOfOne: "I3",
    /// Rows behind a barrier are taken before the other channels have delivered theirs.
    ReadPastBarrier: "I3",
    /// A barrier that comes again, or a trigger, seals again.
    SealTwice: "I3",
    /// An owner that was replaced takes the log back under its old token.
    OldOwner: "I4",
    /// An append is acknowledged without a sync.
    SkipSync: "I8",
    /// A sync that failed is taken for one that can be tried again.
    SyncAgain: "I8",
    /// A new file's name is not synced.
    SkipFolderSync: "I8",
    /// Frames are taken whatever their checksums say.
    SkipChecksum: "I9",
}

#[cfg(feature = "zoo")]
static PLANTED: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Whether this one is planted.
#[inline]
pub fn planted(bug: Bug) -> bool {
    #[cfg(feature = "zoo")]
    return PLANTED.load(std::sync::atomic::Ordering::Relaxed) == bug as u8;
    #[cfg(not(feature = "zoo"))]
    {
        let _ = bug;
        false
    }
}

/// Plants a bug in the place of any that was planted before; [`Bug::None`] removes it. False if this build has none.
pub fn plant(bug: Bug) -> bool {
    #[cfg(feature = "zoo")]
    PLANTED.store(bug as u8, std::sync::atomic::Ordering::Relaxed);
    let _ = bug;
    cfg!(feature = "zoo")
}
