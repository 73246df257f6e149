//! Raft's promises, looked at from outside while a simulation runs: one leader per term, one state per index, and no
//! member that goes back.

use std::collections::BTreeMap;

use qanat_coordinator::raft::Member;

/// What was seen of all members.
#[derive(Default)]
pub(super) struct RaftWatch {
    /// Who led in each term.
    leaders: BTreeMap<u64, u64>,
    /// The state behind each index, and who showed it first.
    states: BTreeMap<u64, (u64, u64)>,
    /// How far each life of each member was.
    applied: BTreeMap<(u64, u64), u64>,
    committed: BTreeMap<(u64, u64), u64>,
    /// States that two members showed, and that were equal.
    compared: usize,
}

impl RaftWatch {
    /// Looks at one member in one life of its process. What is wrong, if anything is.
    pub(super) fn look(&mut self, member: &Member, life: u64) -> Option<String> {
        let id = member.id();
        let status = member.raft_status();
        if status.role == "leader" {
            let leader = *self.leaders.entry(status.term).or_insert(id);
            if leader != id {
                return Some(format!("coordinators {leader} and {id} both lead in term {}", status.term));
            }
        }
        let committed = status.committed.unwrap_or(0);
        let before = self.committed.insert((id, life), committed).unwrap_or(0);
        if committed < before {
            return Some(format!("coordinator {id} knew {before} commands to be decided, and then {committed}"));
        }
        // To hash the state costs more than all else here.
        let before = self.applied.get(&(id, life)).copied().unwrap_or(0);
        if status.applied.unwrap_or(0) == before {
            return None;
        }
        let (index, hash) = member.state_hash();
        self.applied.insert((id, life), index);
        if index < before {
            return Some(format!("coordinator {id} has applied {before} commands, and then {index}"));
        }
        let (first, known) = *self.states.entry(index).or_insert((id, hash));
        if known != hash {
            return Some(format!("coordinators {first} and {id} have other states behind command {index}"));
        }
        self.compared += usize::from(first != id);
        None
    }

    /// Whether there is a group.
    pub(super) fn has_seen_leader(&self) -> bool {
        !self.leaders.is_empty()
    }

    /// States that were compared.
    pub(super) fn states(&self) -> usize {
        self.compared
    }
}
