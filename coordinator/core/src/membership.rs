//! Which process is which node, and which of them take no new work.
//!
//! Executors are known by the name of their node. A process that was killed is replaced by its next start at once, and
//! two that live never push each other out: what tells the two cases apart is the folder that a node keeps for itself.

use std::collections::BTreeMap;

use qanat_proto::ids::StartId;
use serde::{Deserialize, Serialize};

use crate::apply::Applied;
use crate::command::Refusal;
use crate::state::{Job, State};

/// One start of a process on a node's folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incarnation {
    /// Drawn when the folder was made.
    pub folder: u64,
    /// Counts the starts on it.
    pub number: u64,
}

impl Incarnation {
    /// Whether the other one is over for certain: a process has its folder to itself, so an earlier start on the same
    /// one has ended. A folder that was copied counts the same starts twice, and the copies do not follow each other.
    fn follows(self, other: Self) -> bool {
        self.folder == other.folder && self.number > other.number
    }
}

/// The process that a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownNode {
    pub start: StartId,
    pub incarnation: Incarnation,
}

impl State {
    /// The executors that a new leader waits for: those of running generations, the owner of the log and all that are
    /// a node. Of each its name, if it is one's.
    pub fn expected(&self) -> BTreeMap<StartId, String> {
        let running = self.jobs.values().filter(|job| !job.status.is_ended());
        let working = running.flat_map(|job| job.placement.iter().copied()).chain(self.log_owner.map(|o| o.start));
        let named = self.nodes.iter().map(|(name, holder)| (holder.start, name.clone()));
        working.map(|start| (start, String::new())).chain(named).collect()
    }

    /// How people know an executor: the name of its node, or its start if another one has the name since.
    pub fn node_of(&self, start: StartId) -> String {
        let name = self.nodes.iter().find(|(_, holder)| holder.start == start).map(|(name, _)| name.clone());
        name.unwrap_or_else(|| start.to_string())
    }

    /// Whether a start may be the node of this name.
    ///
    /// # Errors
    /// [`Refusal::NodeTaken`] if another one is, which lives and may live on.
    pub fn check_node(
        &self,
        node: &str,
        start: StartId,
        incarnation: Incarnation,
        known: &[StartId],
    ) -> Result<(), Refusal> {
        let is_held = |holder: &KnownNode| {
            holder.start != start && known.contains(&holder.start) && !incarnation.follows(holder.incarnation)
        };
        self.nodes.get(node).filter(|holder| is_held(holder)).map_or(Ok(()), |_| Err(Refusal::NodeTaken))
    }

    pub(crate) fn register(
        &mut self,
        node: &str,
        start: StartId,
        incarnation: Incarnation,
        known: &[StartId],
    ) -> Result<Applied, Refusal> {
        self.check_node(node, start, incarnation, known)?;
        self.nodes.retain(|_, holder| known.contains(&holder.start));
        self.nodes.insert(node.to_owned(), KnownNode { start, incarnation });
        Ok(Applied::Done)
    }
}

impl State {
    pub(crate) fn drain(
        &mut self,
        start: StartId,
        known: &[StartId],
        usable: Option<&[StartId]>,
    ) -> Result<Applied, Refusal> {
        if let Some(usable) = usable {
            // One after the other is decided: of two executors that are drained at once, one keeps its work.
            let takes_over = |other: &StartId| *other != start && !self.draining.contains(other);
            let jobs = self.moving_from(start);
            if !jobs.is_empty() && !usable.iter().any(takes_over) {
                return Err(Refusal::NoRoom { jobs: jobs.into_iter().map(|job| job.name.clone()).collect() });
            }
        }
        self.draining.retain(|drained| known.contains(drained));
        self.draining.insert(start);
        Ok(Applied::Done)
    }

    pub(crate) fn undrain(&mut self, start: StartId, known: &[StartId]) -> Result<Applied, Refusal> {
        self.draining.retain(|drained| known.contains(drained) && *drained != start);
        Ok(Applied::Done)
    }

    /// The jobs that must go elsewhere if an executor takes no work any more, in the order they were made. One that
    /// closes ends where it is.
    pub(crate) fn moving_from(&self, start: StartId) -> Vec<&Job> {
        let here = |job: &&Job| !job.status.is_ended() && job.closing.is_none() && job.placement.contains(&start);
        let mut jobs: Vec<&Job> = self.jobs.values().filter(here).collect();
        jobs.sort_by_key(|job| job.order());
        jobs
    }
}

#[cfg(test)]
mod tests {
    use qanat_proto::ids::{Generation, JobId};
    use qanat_proto::settings::JobSettings;

    use super::*;
    use crate::command::{Command, Outcome};

    fn register(state: &mut State, node: &str, start: u64, folder: (u64, u64), known: &[u64]) -> bool {
        let known = known.iter().copied().map(StartId).collect();
        let incarnation = Incarnation { folder: folder.0, number: folder.1 };
        let command = Command::Register { node: node.to_owned(), start: StartId(start), incarnation, known };
        let before = state.nodes.clone();
        let result = state.apply(&command);
        assert!(matches!(result, Ok(_) | Err(Refusal::NodeTaken)));
        assert!(result.is_ok() || state.nodes == before, "a refused one changes nothing");
        result.is_ok()
    }

    fn holder(state: &State, node: &str) -> Option<u64> {
        state.nodes.get(node).map(|holder| holder.start.0)
    }

    #[test]
    fn the_next_start_on_a_folder_takes_the_place_of_the_one_before_at_once() {
        let mut state = State::default();
        assert!(register(&mut state, "a", 1, (7, 1), &[]));
        assert!(register(&mut state, "a", 1, (7, 1), &[1]), "a repeat");
        assert_eq!(state.node_of(StartId(1)), "a");
        assert!(register(&mut state, "a", 2, (7, 2), &[1]), "its lease has not ended");
        assert_eq!(holder(&state, "a"), Some(2));
        assert_eq!([1, 2].map(|start| state.node_of(StartId(start))), [StartId(1).to_string(), "a".to_owned()]);
        assert!(!register(&mut state, "a", 1, (7, 1), &[1, 2]), "it was replaced, whatever it believes");
        assert_eq!(holder(&state, "a"), Some(2));
    }

    #[test]
    fn another_folder_waits_for_the_end_of_the_lease() {
        let mut state = State::default();
        assert!(register(&mut state, "a", 1, (7, 1), &[]));
        assert!(!register(&mut state, "a", 2, (8, 1), &[1]));
        assert!(!register(&mut state, "a", 2, (8, 9), &[1, 3]), "starts of other folders do not count");
        assert!(register(&mut state, "b", 3, (8, 1), &[1]), "another name");
        assert!(register(&mut state, "a", 2, (8, 1), &[3]), "the lease has ended");
        assert_eq!((holder(&state, "a"), holder(&state, "b")), (Some(2), Some(3)));
    }

    #[test]
    fn of_two_copies_of_a_folder_one_stays() {
        let mut state = State::default();
        assert!(register(&mut state, "a", 1, (7, 5), &[]));
        assert!(!register(&mut state, "a", 2, (7, 5), &[1]), "both count their fifth start");
        assert!(register(&mut state, "a", 3, (7, 6), &[1]), "the copy is started again");
        assert!(!register(&mut state, "a", 1, (7, 5), &[1, 3]), "and is not pushed out in its turn");
        assert_eq!(holder(&state, "a"), Some(3));
    }

    #[test]
    fn a_new_leader_expects_every_node_by_its_name() {
        let mut state = State::default();
        state.apply(&Command::OwnLog { start: StartId(1) }).expect("applied");
        state.apply(&Command::OwnLog { start: StartId(9) }).expect("applied");
        assert!(register(&mut state, "a", 1, (7, 1), &[1]));
        let expected: Vec<_> = state.expected().into_iter().collect();
        assert_eq!(expected, [(StartId(1), "a".to_owned()), (StartId(9), String::new())]);
    }

    #[test]
    fn nodes_that_are_gone_are_forgotten() {
        let mut state = State::default();
        let empty = state.digest();
        for start in 1..=100 {
            assert!(register(&mut state, &format!("node-{start}"), start, (start, 1), &[start - 1]));
            assert!(state.nodes.len() <= 2);
        }
        assert_ne!(state.digest(), empty);
        let text = serde_json::to_string(&state).expect("encodes");
        assert_eq!(serde_json::from_str::<State>(&text).expect("decodes"), state);
    }

    fn job(state: &mut State, id: u128, name: &str, placement: &[u64]) {
        let create = Command::CreateJob {
            job: JobId(id),
            name: name.to_owned(),
            script_digest: String::new(),
            manifest_key: "m0".to_owned(),
            checksum: String::new(),
            run_with: None,
        };
        let open = Command::OpenGeneration {
            job: JobId(id),
            expected: Generation(0),
            placement: placement.iter().copied().map(StartId).collect(),
            parallelism: 2,
            settings: JobSettings::default(),
        };
        for command in [create, open] {
            state.apply(&command).expect("applied");
        }
    }

    fn drain(state: &mut State, start: u64, usable: Option<&[u64]>) -> Result<(), Refusal> {
        let starts = |starts: &[u64]| starts.iter().copied().map(StartId).collect::<Vec<_>>();
        let (known, usable) = (starts(&[1, 2, 3]), usable.map(starts));
        let before = state.draining.clone();
        let command = Command::Drain { start: StartId(start), undo: false, known, usable, object: String::new() };
        let result = state.apply(&command).map(drop);
        assert!(result.is_ok() || state.draining == before, "it is as usable as before");
        result
    }

    #[test]
    fn the_last_executor_that_could_run_a_job_is_not_drained() {
        let mut state = State::default();
        assert_eq!(drain(&mut state, 1, Some(&[1])), Ok(()), "it has no work");
        state.undrain(StartId(1), &[]).expect("undone");
        job(&mut state, 9, "first", &[1, 2]);
        job(&mut state, 3, "second", &[1]);
        let refused = Err(Refusal::NoRoom { jobs: vec!["first".to_owned(), "second".to_owned()] });
        assert_eq!(drain(&mut state, 1, Some(&[1])), refused);
        assert_eq!(drain(&mut state, 1, Some(&[])), refused);
        assert_eq!(drain(&mut state, 3, Some(&[3])), Ok(()), "it has no work");
        assert_eq!(drain(&mut state, 1, Some(&[1, 3])), refused, "the other one is drained itself");
        assert_eq!(drain(&mut state, 1, Some(&[1, 2])), Ok(()));
        let refused = Err(Refusal::NoRoom { jobs: vec!["first".to_owned()] });
        assert_eq!(drain(&mut state, 2, Some(&[1, 2])), refused, "of two at once");
        state.apply(&Command::Close { job: JobId(9), outcome: Outcome::Stopped }).expect("closed");
        assert_eq!(drain(&mut state, 2, Some(&[1, 2])), Ok(()), "what ends needs no room");
    }

    #[test]
    fn a_drain_of_an_earlier_version_is_what_it_was() {
        let mut state = State::default();
        job(&mut state, 9, "first", &[1]);
        assert_eq!(drain(&mut state, 1, None), Ok(()));
        let text = r#"{"command":"drain","start":"0000000000000001","undo":false,"known":[],"object":""}"#;
        let command: Command = serde_json::from_str(text).expect("parses");
        assert!(matches!(command, Command::Drain { usable: None, .. }));
    }

    #[test]
    fn many_jobs_are_told_in_a_short_line() {
        let jobs: Vec<String> = (0..30).map(|number| format!("job-{number}")).collect();
        let told = Refusal::NoRoom { jobs }.to_string();
        assert!(told.ends_with("`job-7` and 22 more"), "{told}");
    }
}
