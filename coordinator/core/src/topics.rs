//! Who appends to which topic (P11).
//!
//! A topic is owned beside a job that writes to it: by one of its executors, from its first commit on and for as long
//! as that executor is there. Then another one takes over, with a higher token. So the work of appending is spread as
//! the jobs are. Topics that no job has written to yet have the owner of the log.

use qanat_proto::ids::StartId;
use qanat_proto::limits::TOPIC_OWNERS_MAX;

use crate::apply::Applied;
use crate::placement::Executor;
use crate::state::{LogOwner, State};

/// Of the first owner of the log.
const FIRST_TOKEN: u64 = 2;

impl State {
    /// Who appends to a topic.
    pub fn owner_of(&self, topic: &str) -> Option<LogOwner> {
        self.topics.get(topic).copied().or(self.log_owner)
    }

    pub(crate) fn own_log(&mut self, start: StartId) -> Applied {
        // Above the 1 of a partition that nobody took over, and above the owner before.
        let token = self.log_owner.map_or(FIRST_TOKEN, |owner| owner.token + 1).max(self.applied);
        self.log_owner = Some(LogOwner { start, token });
        Applied::Done
    }

    pub(crate) fn own_topics(&mut self, start: StartId, topics: &[String]) -> Applied {
        // No token that was given before is as high.
        let token = self.applied + 1;
        self.topics.extend(topics.iter().map(|topic| (topic.clone(), LogOwner { start, token })));
        while self.topics.len() > TOPIC_OWNERS_MAX {
            let oldest = self.topics.iter().min_by_key(|(_, owner)| owner.token);
            let Some(oldest) = oldest.map(|(topic, _)| topic.clone()) else { break };
            self.topics.remove(&oldest);
            // Who owns it now must outrank who did.
            self.log_owner.iter_mut().for_each(|owner| owner.token = token);
        }
        Applied::Done
    }
}

/// The executor that is to append to a topic from now on, if none was chosen for it yet, or the chosen one is lost or
/// draining: the first usable one of the job that has rows for it, which runs on `placement`.
pub fn next_topic_owner(state: &State, executors: &[Executor], topic: &str, placement: &[StartId]) -> Option<StartId> {
    if topic.is_empty() {
        return None;
    }
    let chosen = state.topics.get(topic);
    let chosen = chosen.and_then(|owner| executors.iter().find(|executor| executor.start == owner.start));
    if chosen.is_some_and(|owner| !owner.draining) {
        return None;
    }
    let is_usable = |start: &StartId| executors.iter().any(|executor| executor.start == *start && executor.is_usable());
    placement.iter().copied().find(is_usable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;

    fn executor(start: u64) -> Executor {
        let (start, node) = (StartId(start), format!("node-{start}"));
        Executor { start, node, address: String::new(), slots: 1, attached: true, draining: false }
    }

    fn own(state: &mut State, start: u64, topics: &[&str]) -> u64 {
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        state.apply(&Command::OwnTopics { start: StartId(start), topics }).expect("applied");
        state.applied + 1
    }

    fn owner(state: &State, topic: &str) -> Option<(u64, u64)> {
        state.owner_of(topic).map(|owner| (owner.start.0, owner.token))
    }

    #[test]
    fn each_topic_has_its_own_owner_and_tokens_only_rise() {
        let mut state = State::default();
        assert_eq!(owner(&state, "a"), None);
        state.apply(&Command::OwnLog { start: StartId(1) }).expect("applied");
        assert_eq!(owner(&state, "a"), Some((1, 2)), "as long as nobody was chosen");
        let mut last = 2;
        for start in [2, 3, 2] {
            let token = own(&mut state, start, &["a"]);
            assert_eq!(owner(&state, "a"), Some((start, token)));
            assert!(token > last);
            last = token;
        }
        assert_eq!(owner(&state, "b"), Some((1, 2)), "another topic does not change");
        state.apply(&Command::OwnLog { start: StartId(4) }).expect("applied");
        assert_eq!((owner(&state, "a"), owner(&state, "b")), (Some((2, last)), Some((4, last))));
        let text = serde_json::to_string(&state).expect("encodes");
        assert_eq!(serde_json::from_str::<State>(&text).expect("decodes"), state);
    }

    #[test]
    fn no_two_owners_of_the_log_have_one_token() {
        let mut state = State::default();
        let mut last = 1;
        for start in 1..5 {
            state.apply(&Command::OwnLog { start: StartId(start) }).expect("applied");
            let (owner, token) = owner(&state, "a").expect("owned");
            assert!(owner == start && token > last, "{token} after {last}");
            last = token;
        }
    }

    #[test]
    fn what_is_forgotten_is_never_owned_under_a_lower_token() {
        let mut state = State::default();
        state.apply(&Command::OwnLog { start: StartId(1) }).expect("applied");
        let first = own(&mut state, 2, &["first"]);
        let names: Vec<String> = (0..TOPIC_OWNERS_MAX).map(|number| format!("topic-{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        own(&mut state, 3, &names);
        assert_eq!(state.topics.len(), TOPIC_OWNERS_MAX);
        let (start, token) = owner(&state, "first").expect("owned");
        assert!(start == 1 && token > first);
    }

    #[test]
    fn a_topic_is_owned_beside_its_writer_until_that_is_gone() {
        let mut state = State::default();
        let mut executors = vec![executor(1), executor(2), executor(3)];
        let writer = [StartId(2), StartId(3)];
        let next = |state: &State, executors: &[Executor]| next_topic_owner(state, executors, "t", &writer);
        assert_eq!(next(&state, &executors), Some(StartId(2)));
        own(&mut state, 1, &["t"]);
        assert_eq!(next(&state, &executors), None, "another job's executor has it");
        // Within its lease it may come back.
        executors[0].attached = false;
        assert_eq!(next(&state, &executors), None);
        executors[0].draining = true;
        assert_eq!(next(&state, &executors), Some(StartId(2)));
        executors.remove(0);
        assert_eq!(next(&state, &executors), Some(StartId(2)));
        executors[0].draining = true;
        assert_eq!(next(&state, &executors), Some(StartId(3)));
        executors[1].attached = false;
        assert_eq!(next(&state, &executors), None, "nobody could");
        assert_eq!(next_topic_owner(&state, &[executor(2)], "", &writer), None);
    }
}
