//! Topics that are made or deleted by command: decided here, done by the owner of their log.
//!
//! Two things must never happen: a topic goes while a job that has not ended uses it, or a change that was told to an
//! owner long ago comes about after a later one. For the first, jobs and deletions are refused by each other; for the
//! second, changes have numbers, and the storage remembers the last one of each name.

use qanat_proto::limits::TOPIC_CHANGES_MAX;
use qanat_proto::owner::TopicChange;

use crate::apply::Applied;
use crate::command::{Refusal, RunWith};
use crate::state::{PendingChange, State};

impl State {
    /// A repeat of what is pending gets its number again.
    pub(crate) fn change_topic(&mut self, topic: &str, change: &TopicChange) -> Result<Applied, Refusal> {
        if let Some(pending) = self.topic_changes.get(topic) {
            return match pending.change == *change {
                true => Ok(Applied::Changing { number: pending.number }),
                false => Err(Refusal::TopicChanging { topic: topic.to_owned() }),
            };
        }
        if self.topic_changes.len() >= TOPIC_CHANGES_MAX {
            return Err(Refusal::TooManyTopicChanges);
        }
        if matches!(change, TopicChange::Delete { .. })
            && let Some(job) = self.user_of(topic)
        {
            return Err(Refusal::TopicInUse { topic: topic.to_owned(), job: job.to_owned() });
        }
        let number = self.applied;
        self.topic_changes.insert(topic.to_owned(), PendingChange { number, change: change.clone() });
        Ok(Applied::Changing { number })
    }

    pub(crate) fn topic_changed(&mut self, topic: &str, number: u64) -> Applied {
        if self.topic_changes.get(topic).is_some_and(|pending| pending.number == number)
            && let Some(PendingChange { change: TopicChange::Delete { id }, .. }) = self.topic_changes.remove(topic)
            && self.cuts.get(topic).is_some_and(|cut| cut.id == id)
        {
            self.cuts.remove(topic);
        }
        Applied::Done
    }

    /// A job that has not ended and reads or writes the topic, or of which nobody knows.
    fn user_of(&self, topic: &str) -> Option<&str> {
        let uses = |run_with: &RunWith| run_with.topics.as_ref().is_none_or(|topics| topics.names.contains(topic));
        let mut active = self.jobs.values().filter(|job| !job.status.is_ended());
        active.find(|job| job.run_with.as_deref().is_none_or(uses)).map(|job| job.name.as_str())
    }

    /// Whether a job may begin, or begin again.
    pub(crate) fn check_topics(&self, run_with: Option<&RunWith>) -> Result<(), Refusal> {
        let topics = run_with.and_then(|run_with| run_with.topics.as_ref()).map(|topics| &topics.names);
        let goes = |topic: &&String| {
            self.topic_changes.get(*topic).is_some_and(|p| matches!(p.change, TopicChange::Delete { .. }))
        };
        match topics.into_iter().flatten().find(goes) {
            Some(topic) => Err(Refusal::TopicChanging { topic: topic.clone() }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use qanat_proto::ids::JobId;
    use qanat_proto::owner::NewTopic;
    use qanat_proto::settings::JobSettings;

    use super::*;
    use crate::command::{Command, JobTopics, Outcome};

    fn create(job: u128, topics: Option<&[&str]>) -> Command {
        let names = topics.map(|topics| topics.iter().map(|topic| (*topic).to_owned()).collect());
        let topics = names.map(|names| JobTopics { names, starts: Vec::new() });
        let run_with =
            RunWith { parallelism: 1, settings: JobSettings::default(), together: false, trace: None, topics };
        Command::CreateJob {
            job: JobId(job),
            name: format!("job{job}"),
            script_digest: String::new(),
            manifest_key: String::new(),
            checksum: String::new(),
            run_with: Some(Box::new(run_with)),
        }
    }

    fn make(topic: &str, id: u64) -> Command {
        let change = TopicChange::Create(NewTopic { id, partitions: 1, bytes: None, age_ms: None, consumed: false });
        Command::ChangeTopic { topic: topic.to_owned(), change }
    }

    fn delete(topic: &str, id: u64) -> Command {
        Command::ChangeTopic { topic: topic.to_owned(), change: TopicChange::Delete { id } }
    }

    fn number(applied: Result<Applied, Refusal>) -> u64 {
        let Ok(Applied::Changing { number }) = applied else { panic!("{applied:?}") };
        number
    }

    #[test]
    fn a_topic_goes_only_when_no_job_uses_it_and_no_job_begins_meanwhile() {
        let mut state = State::default();
        state.apply(&create(1, Some(&["a"]))).expect("new");
        let in_use = |topic: &str, job: &str| Err(Refusal::TopicInUse { topic: topic.to_owned(), job: job.to_owned() });
        assert_eq!(state.apply(&delete("a", 7)), in_use("a", "job1"));
        let of_b = number(state.apply(&delete("b", 8)));
        let changing = |topic: &str| Err(Refusal::TopicChanging { topic: topic.to_owned() });
        assert_eq!(state.apply(&create(2, Some(&["a", "b"]))), changing("b"));
        assert_eq!(state.apply(&make("b", 9)), changing("b"));
        assert_eq!(number(state.apply(&delete("b", 8))), of_b, "a repeat");
        // An answer that comes late is about another change.
        state.apply(&Command::TopicChanged { topic: "b".into(), number: of_b - 1 }).expect("nothing to do");
        assert_eq!(state.apply(&create(2, Some(&["a", "b"]))), changing("b"));
        state.apply(&Command::TopicChanged { topic: "b".into(), number: of_b }).expect("done");
        assert!(number(state.apply(&make("b", 9))) > of_b);
        // One that is being made may be used already.
        state.apply(&create(2, Some(&["b"]))).expect("new");
        // Ended, the job is in nobody's way; and it does not come back while its topic goes.
        state.apply(&Command::Close { job: JobId(1), outcome: Outcome::Stopped }).expect("closes");
        number(state.apply(&delete("a", 7)));
        assert_eq!(state.apply(&Command::Resume { job: JobId(1) }), changing("a"));
    }

    #[test]
    fn a_job_that_does_not_say_what_it_uses_uses_everything() {
        let mut state = State::default();
        state.apply(&create(1, None)).expect("new");
        let refused = state.apply(&delete("a", 7));
        assert_eq!(refused, Err(Refusal::TopicInUse { topic: "a".into(), job: "job1".into() }));
    }

    #[test]
    fn changes_at_a_time_are_bounded() {
        let mut state = State::default();
        for n in 0..TOPIC_CHANGES_MAX {
            number(state.apply(&make(&format!("t{n}"), 1)));
        }
        assert_eq!(state.apply(&make("more", 1)), Err(Refusal::TooManyTopicChanges));
    }
}
