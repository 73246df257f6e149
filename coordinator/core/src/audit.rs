//! The audit log: each change that somebody asked for, with who, what, when and from where. It is made by `apply`
//! together with the change, so that neither is there without the other.

use std::collections::VecDeque;
use std::sync::Arc;

use qanat_proto::limits::{AUDIT_ENTRIES_MAX, AUDIT_TEXT_BYTES};
use serde::{Deserialize, Serialize};

use crate::apply::Applied;
use crate::command::{Command, Proposal, Refusal};
use crate::state::State;

/// Who makes a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// Name of the token, or `local` where a cluster runs without them.
    pub who: String,
    /// `Jobs.Submit`
    pub what: String,
    /// Address; empty if it is not known.
    pub from: String,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Counts from 1.
    pub number: u64,
    /// The clock of the coordinator that proposed it, milliseconds since 1970 UTC.
    pub at_ms: i64,
    #[serde(flatten)]
    pub caller: Caller,
    /// `job sales`
    pub object: String,
}

/// The newest changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLog {
    /// Shared, so that a copy to be shown is made at once.
    pub entries: VecDeque<Arc<AuditEntry>>,
    /// Those that were the oldest when there were too many.
    pub dropped: u64,
}

impl AuditLog {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn push(&mut self, at_ms: i64, caller: &Caller, object: String) {
        let number = self.dropped + self.entries.len() as u64 + 1;
        let caller = Caller { who: short(&caller.who), what: short(&caller.what), from: short(&caller.from) };
        self.entries.push_back(Arc::new(AuditEntry { number, at_ms, caller, object: short(&object) }));
        while self.entries.len() > AUDIT_ENTRIES_MAX {
            self.entries.pop_front();
            self.dropped += 1;
        }
    }
}

/// The first part of a text that may be long.
fn short(text: &str) -> String {
    text[..text.floor_char_boundary(AUDIT_TEXT_BYTES)].to_owned()
}

impl Command {
    /// Whether it is a change that people ask for, and not a step of a job's own.
    pub fn is_asked_for(&self) -> bool {
        match self {
            Self::CreateJob { .. }
            | Self::CreateGroup { .. }
            | Self::StopWithSavepoint { .. }
            | Self::Resume { .. }
            | Self::Rescale { .. }
            | Self::Close { .. }
            | Self::Savepoint { .. }
            | Self::DropSavepoint { .. }
            | Self::Rollback { .. }
            | Self::DropJob { .. }
            | Self::CreateToken { .. }
            | Self::RevokeToken { .. }
            | Self::Drain { .. }
            | Self::ChangeTopic { .. }
            | Self::Note { .. } => true,
            Self::OpenGeneration { .. }
            | Self::Claim { .. }
            | Self::Committed { .. }
            | Self::RecordFailure { .. }
            | Self::Withdrawn { .. }
            | Self::Retire { .. }
            | Self::Acknowledge { .. }
            | Self::Collected { .. }
            | Self::Register { .. }
            | Self::OwnTopics { .. }
            | Self::TopicChanged { .. }
            | Self::CutTopic { .. }
            | Self::OwnLog { .. } => false,
        }
    }

    /// What it changes, by the names that people use, as `state` is before.
    fn object(&self, state: &State) -> String {
        match self {
            Self::CreateJob { name, .. } => format!("job {name}"),
            Self::CreateGroup { group, jobs } => match &jobs[..] {
                [job] => format!("job {}", job.name),
                jobs => format!("{} jobs of {group}", jobs.len()),
            },
            Self::CreateToken { facts, .. } => format!("token {} ({})", facts.name, facts.role),
            Self::RevokeToken { id } => match state.access.tokens.get(id) {
                Some(facts) => format!("token {}", facts.name),
                None => format!("token {id}"),
            },
            Self::Drain { object, .. } | Self::Note { object } => object.clone(),
            Self::ChangeTopic { topic, .. } => format!("topic {topic}"),
            Self::Savepoint { job, name, .. } | Self::DropSavepoint { job, name } => match state.job(*job) {
                Some(job) => format!("savepoint {name} of job {}", job.name),
                None => format!("savepoint {name}"),
            },
            other => match other.job().and_then(|id| state.job(id)) {
                Some(job) => format!("job {}", job.name),
                None => "the cluster".to_owned(),
            },
        }
    }
}

impl State {
    /// Applies one entry of the command log.
    ///
    /// # Errors
    /// As [`State::apply`].
    pub fn apply_proposal(&mut self, proposal: &Proposal) -> Result<Applied, Refusal> {
        let asked = proposal.caller.as_ref().filter(|_| proposal.command.is_asked_for());
        let asked = asked.map(|caller| (caller, proposal.command.object(self)));
        let applied = self.apply(&proposal.command)?;
        if let Some((caller, object)) = asked {
            self.audit.push(proposal.at_ms, caller, object);
        }
        Ok(applied)
    }
}

#[cfg(test)]
mod tests {
    use qanat_proto::ids::{JobId, StartId};

    use super::*;

    fn proposal(at_ms: i64, command: Command, is_asked: bool) -> Proposal {
        let caller = Caller { who: "ann".into(), what: "Cluster.Drain".into(), from: "10.0.0.1:5".into() };
        Proposal { at_ms, command, caller: is_asked.then(|| Box::new(caller)) }
    }

    fn note(object: &str) -> Command {
        Command::Note { object: object.to_owned() }
    }

    #[test]
    fn changes_that_came_about_are_told_and_nothing_else() {
        let mut state = State::default();
        let empty = state.digest();
        state.apply_proposal(&proposal(1, note("x"), false)).expect("applied");
        state.apply_proposal(&proposal(2, Command::OwnLog { start: StartId(1) }, true)).expect("applied");
        state.apply_proposal(&proposal(3, Command::Resume { job: JobId(1) }, true)).expect_err("no such job");
        assert!(state.audit.is_empty() && state.digest() != empty);
        state.apply_proposal(&proposal(4, note("executor a"), true)).expect("applied");
        let entry = &state.audit.entries[0];
        assert_eq!((entry.number, entry.at_ms, entry.object.as_str()), (1, 4, "executor a"));
        assert_eq!((entry.caller.who.as_str(), entry.caller.from.as_str()), ("ann", "10.0.0.1:5"));
        let text = serde_json::to_string(&state).expect("encodes");
        assert_eq!(serde_json::from_str::<State>(&text).expect("decodes"), state);
    }

    #[test]
    fn the_log_is_bounded_and_says_what_it_dropped() {
        let mut state = State::default();
        for at_ms in 0..AUDIT_ENTRIES_MAX as i64 + 3 {
            state.apply_proposal(&proposal(at_ms, note(&"ü".repeat(200)), true)).expect("applied");
        }
        let log = &state.audit;
        assert_eq!((log.entries.len(), log.dropped), (AUDIT_ENTRIES_MAX, 3));
        let (first, last) = (log.entries.front().expect("some"), log.entries.back().expect("some"));
        assert_eq!((first.number, last.number), (4, AUDIT_ENTRIES_MAX as u64 + 3));
        assert!(first.object.len() <= AUDIT_TEXT_BYTES);
    }
}
