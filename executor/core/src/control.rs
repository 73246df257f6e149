//! What a node listens to and what it refuses (P1, P2): pure decisions about control messages.
//!
//! A node holds at most one generation of each job. It builds a generation once: what was built and has ended is
//! never built again, because that would read again into a sink that holds the same rows.

use std::collections::BTreeMap;

use qanat_proto::control::{ExecutorMessage, ToExecutor};
use qanat_proto::ids::{JobId, StartId, Token};
use qanat_proto::zoo::{Bug, planted};

/// What to do with a control message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// For another start of this process, or of an older generation than the one it has: refused, and counted.
    Fenced,
    /// About a generation that is not here, and not older than one that is.
    Unknown,
    /// A generation to build, in the place of any that the job has here.
    Build,
    /// It stands: whoever asks is told again how it fares.
    Stands,
    /// It was built here, and has ended.
    HasEnded,
    /// For the generation that the job has here.
    Take,
    /// For the owner of a topic, whatever generations are here.
    Append,
    /// The generation that the job has here is to end.
    End,
}

/// The generations of one process.
#[derive(Clone, Debug)]
pub struct Control {
    start: StartId,
    /// The newest generation of each job that was ever built here.
    built: BTreeMap<JobId, Token>,
    /// The one that each job has here now.
    current: BTreeMap<JobId, Token>,
}

impl Control {
    /// Of a process that has just started.
    pub fn new(start: StartId) -> Self {
        Self { start, built: BTreeMap::new(), current: BTreeMap::new() }
    }

    /// The newest generation of each job that was built here, ended ones too.
    pub fn built(&self) -> impl Iterator<Item = Token> {
        self.built.values().copied()
    }

    /// Decides about one message, and takes note of what it decides.
    pub fn take(&mut self, to: &ToExecutor) -> Verdict {
        let token = to.token;
        // P1: meant for another start of this process.
        let takes_any = planted(Bug::AnyStart);
        if to.start != self.start && !takes_any {
            return Verdict::Fenced;
        }
        let current = self.current.get(&token.job).copied();
        match &to.message {
            ExecutorMessage::Deploy(_) => match self.built.get(&token.job).copied() {
                Some(newest) if newest > token => Verdict::Fenced,
                Some(newest) if newest == token && current == Some(token) => Verdict::Stands,
                Some(newest) if newest == token && !planted(Bug::BuildTwice) => Verdict::HasEnded,
                _ => {
                    self.built.insert(token.job, token);
                    self.current.insert(token.job, token);
                    Verdict::Build
                }
            },
            ExecutorMessage::CommitLog { .. } => Verdict::Append,
            // P2: only the current generation of a job is listened to.
            _ => match current {
                None => Verdict::Unknown,
                Some(_) if planted(Bug::AnyToken) => Verdict::Take,
                Some(current) if current > token => Verdict::Fenced,
                Some(current) if current < token => Verdict::Unknown,
                Some(_) if matches!(to.message, ExecutorMessage::Stop) => {
                    self.current.remove(&token.job);
                    Verdict::End
                }
                Some(_) => Verdict::Take,
            },
        }
    }

    /// A generation could not be built, or what it was built of is gone.
    pub fn ended(&mut self, token: Token) {
        if self.current.get(&token.job) == Some(&token) {
            self.current.remove(&token.job);
        }
    }
}
