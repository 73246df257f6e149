//! A job that is put to the test.

use qanat_client::{Client, Job, JobState, error_of_failure};
use qanat_proto::{Code, Error, Result};

/// A job, as it was seen last.
pub(super) struct Subject {
    pub(super) id: String,
    pub(super) name: String,
    /// What it had at the beginning, and has at the end.
    pub(super) parallelism: u32,
    pub(super) last: Job,
    /// Whether it had ended before any fault.
    is_old: bool,
}

impl Subject {
    /// The jobs that have not ended; or those that are named, whatever their state.
    ///
    /// # Errors
    /// E0309 for a name that there is not; E0501 if none of them runs.
    pub(super) async fn find(client: &Client, names: &[String]) -> Result<Vec<Self>> {
        let mut jobs = Vec::new();
        for name in names {
            jobs.push(client.describe(name).await?);
        }
        if names.is_empty() {
            jobs = client.list(false).await?;
            jobs.retain(|job| !has_ended(job));
        }
        if jobs.iter().all(has_ended) {
            let error = Error::new(Code::Usage, "no job runs on this cluster that could be put to the test");
            return Err(error.hint("submit one that goes on for as long as this command: `qanat submit SCRIPT`"));
        }
        let mut subjects: Vec<Self> = jobs.into_iter().map(Self::new).collect();
        subjects.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        subjects.dedup_by(|a, b| a.id == b.id);
        Ok(subjects)
    }

    fn new(job: Job) -> Self {
        let is_old = has_ended(&job);
        Self { id: job.id.clone(), name: job.name.clone(), parallelism: job.parallelism, last: job, is_old }
    }

    /// # Errors
    /// If no coordinator answers, or the job is gone.
    pub(super) async fn look(&mut self, client: &Client) -> Result<()> {
        self.last = client.describe(&self.id).await?;
        Ok(())
    }

    pub(super) fn has_ended(&self) -> bool {
        has_ended(&self.last)
    }

    /// Whether somebody has stopped it since.
    pub(super) fn was_stopped(&self) -> bool {
        self.last.state() == JobState::Stopped && !self.is_old
    }

    /// What is wrong with it, if it has failed since.
    pub(super) fn failure(&self) -> Option<String> {
        (self.last.state() == JobState::Failed && !self.is_old).then(|| {
            let why = self.last.failure.clone().map(|failure| error_of_failure(failure).to_string());
            format!("{}: the job has failed: {}", self.name, why.unwrap_or_else(|| "nobody says why".to_owned()))
        })
    }

    /// Another parallelism for it: back to its own, or one off that.
    pub(super) fn others(&self, which: u64) -> Vec<u32> {
        let now = self.last.parallelism;
        if now != self.parallelism {
            return vec![self.parallelism];
        }
        let (more, fewer) = (now + 1, now.saturating_sub(1));
        let tries = if which.is_multiple_of(2) { [more, fewer] } else { [fewer, more] };
        tries.into_iter().filter(|other| *other > 0).collect()
    }
}

fn has_ended(job: &Job) -> bool {
    matches!(job.state(), JobState::Stopped | JobState::Finished | JobState::Failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(parallelism: u32, now: u32) -> Subject {
        let mut subject = Subject::new(Job { parallelism, ..Job::default() });
        subject.last.parallelism = now;
        subject
    }

    #[test]
    fn a_rescale_goes_one_off_and_comes_back() {
        assert_eq!((subject(2, 2).others(0), subject(2, 2).others(1)), (vec![3, 1], vec![1, 3]));
        assert_eq!((subject(1, 1).others(0), subject(1, 1).others(1)), (vec![2], vec![2]));
        assert_eq!(subject(2, 3).others(1), [2]);
    }
}
