//! What may happen to a cluster.

use std::fmt;

use clap::ValueEnum;

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Kind {
    /// `kill -9` of an executor, and a start with its own command line.
    KillExecutor,
    /// The same of the coordinator that leads.
    KillLeader,
    /// The same of a coordinator that follows.
    KillFollower,
    /// An executor is stopped (SIGSTOP) for longer than its lease, and goes on.
    PauseExecutor,
    /// The leader is stopped for longer than an election takes, and goes on.
    PauseLeader,
    /// A process is asked to end (SIGTERM) and started again.
    Restart,
    /// An executor gives its work away, and takes work again.
    Drain,
    /// A job goes on with another parallelism.
    Rescale,
    /// An epoch gets a name.
    Savepoint,
}

impl Kind {
    pub(crate) const ALL: [Self; 9] = [
        Self::KillExecutor,
        Self::KillLeader,
        Self::KillFollower,
        Self::PauseExecutor,
        Self::PauseLeader,
        Self::Restart,
        Self::Drain,
        Self::Rescale,
        Self::Savepoint,
    ];
}

impl fmt::Display for Kind {
    /// As the command line takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}
