//! A job of a cluster, as it is printed: as a row of a table, as a line of `job watch`, and by itself.

use qanat_client::{Job, JobOverview, JobState, error_of_failure};
use qanat_proto::Error;
use qanat_proto::receipt::Totals;
use serde::Serialize;

use crate::output;

/// A job of a cluster.
#[derive(Debug, Serialize)]
pub(crate) struct JobReport {
    pub(crate) name: String,
    /// The name of its script's submit: the jobs of one script have one.
    #[serde(skip_serializing_if = "String::is_empty")]
    group: String,
    pub(crate) job: String,
    pub(crate) status: String,
    generation: u64,
    parallelism: u32,
    /// What a rescale asks for, from the next generation on.
    #[serde(skip_serializing_if = "Option::is_none")]
    parallelism_wanted: Option<u32>,
    /// The newest claimed epoch, and the newest that is visible.
    epoch: u64,
    committed_epoch: u64,
    executors: Vec<String>,
    /// The last one, overcome or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Error>,
    stopping: bool,
    /// What a rollback takes back is not gone yet.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    withdrawing: bool,
    created: String,
    changed: String,
    /// What its epochs read and wrote, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    totals: Option<Totals>,
    /// How it fares, where it was asked for and the job has not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<Live>,
}

/// Figures of the last few seconds.
#[derive(Debug, Serialize)]
pub(super) struct Live {
    pub(super) rows_per_second: f64,
    pub(super) bytes_per_second: f64,
    pub(super) sink_rows_per_second: f64,
    watermark: Option<String>,
    pub(super) watermark_lag_ms: Option<u64>,
    /// From trigger to recorded commit: of the last epoch, and the 99th percentile.
    pub(super) checkpoint_ms: Option<u64>,
    pub(super) checkpoint_p99_ms: Option<u64>,
    pub(super) memory_bytes: u64,
    /// Generations that failed since this coordinator leads.
    failures: u64,
}

/// The state of a job, by the name that users see.
pub(crate) fn state_name(job: &Job) -> String {
    job.state().as_str_name().trim_start_matches("JOB_STATE_").to_owned()
}

/// Whether a job goes on by itself.
pub(crate) fn is_active(job: &Job) -> bool {
    !matches!(job.state(), JobState::Stopped | JobState::Finished | JobState::Failed)
}

impl JobReport {
    pub(crate) fn new(job: Job) -> Self {
        Self {
            status: state_name(&job),
            name: job.name,
            group: job.group,
            job: job.id,
            generation: job.generation,
            parallelism: job.parallelism,
            parallelism_wanted: Some(job.parallelism_wanted).filter(|n| *n > 0 && *n != job.parallelism),
            epoch: job.claimed_epoch,
            committed_epoch: job.committed_epoch,
            executors: job.executors,
            error: job.failure.map(error_of_failure),
            stopping: job.stopping,
            withdrawing: job.withdrawing,
            created: output::time(job.created_ms),
            changed: output::time(job.changed_ms),
            totals: serde_json::from_str(&job.totals).ok(),
            live: None,
        }
    }

    /// With how it fares now.
    pub(crate) fn with(mut self, overview: Option<JobOverview>) -> Self {
        self.live = overview.as_ref().map(Live::of);
        self
    }

    /// The error that explains the state: one that a generation has overcome is history.
    fn present_error(&self) -> Option<&Error> {
        self.error.as_ref().filter(|_| matches!(self.status.as_str(), "FAILED" | "RESTARTING"))
    }

    /// The state, and what goes with it: `RESTARTING (E0603, stopping)`.
    fn status_text(&self) -> String {
        let code = self.present_error().map(|error| error.code().as_str().to_owned());
        let stopping = self.stopping.then(|| "stopping".to_owned());
        let withdrawing = self.withdrawing.then(|| "withdrawing".to_owned());
        let more: Vec<String> = code.into_iter().chain(stopping).chain(withdrawing).collect();
        if more.is_empty() { self.status.clone() } else { format!("{} ({})", self.status, more.join(", ")) }
    }

    fn row(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.job.chars().take(8).collect(),
            self.status_text(),
            self.generation.to_string(),
            self.committed_epoch.to_string(),
            self.parallelism.to_string(),
            self.executors.join(", "),
            self.group.clone(),
            self.changed.clone(),
        ]
    }

    /// What `job watch` prints after the time of a change. Equal for changes of which it shows nothing.
    pub(crate) fn line(&self) -> String {
        let error = self.present_error().map(|error| format!(": {error}")).unwrap_or_default();
        format!(
            "{} {} generation {} epoch {}{error}",
            self.name,
            self.status_text(),
            self.generation,
            self.committed_epoch
        )
    }

    /// When it changed last.
    pub(crate) fn changed(&self) -> &str {
        &self.changed
    }

    /// Its newest claimed epoch.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What a stop waits for.
    pub(crate) fn awaits(&self) -> String {
        match self.status.as_str() {
            "RUNNING" => format!("the last epoch of generation {}", self.generation),
            _ => {
                let error = self.error.as_ref().map(|error| format!("; the last error is {error}"));
                format!("a generation that can make its last epoch{}", error.unwrap_or_default())
            }
        }
    }

    /// All that is known, a line for each.
    pub(crate) fn text(&self) -> String {
        let mut facts = Facts::default();
        facts.add("job", &self.name);
        facts.add("run", &self.job);
        if self.group != self.name && !self.group.is_empty() {
            facts.add("group", &self.group);
        }
        facts.add("status", self.status_text());
        facts.add("generation", self.generation);
        if !self.executors.is_empty() {
            facts.add("executors", self.executors.join(", "));
        }
        match self.parallelism_wanted {
            Some(wanted) => facts.add("parallelism", format!("{}, {wanted} is asked for", self.parallelism)),
            None => facts.add("parallelism", self.parallelism),
        }
        facts.add("last epoch", format!("{}, visible is {}", self.epoch, self.committed_epoch));
        facts.add("created", &self.created);
        facts.add("changed", &self.changed);
        if let Some(totals) = &self.totals {
            facts.totals(totals);
        }
        if let Some(live) = &self.live {
            live.tell(&mut facts);
        }
        if let Some(error) = &self.error {
            facts.error(if self.status == "FAILED" { "error" } else { "last error" }, error);
        }
        facts.text()
    }
}

impl Live {
    pub(super) fn of(overview: &JobOverview) -> Self {
        Self {
            rows_per_second: overview.rows_per_second,
            bytes_per_second: overview.bytes_per_second,
            sink_rows_per_second: overview.sink_rows_per_second,
            watermark: overview.watermark_ms.map(output::time),
            watermark_lag_ms: overview.watermark_lag_ms,
            checkpoint_ms: overview.checkpoint_ms,
            checkpoint_p99_ms: overview.checkpoint_p99_ms,
            memory_bytes: overview.memory_bytes,
            failures: overview.failures,
        }
    }

    fn tell(&self, facts: &mut Facts) {
        let bytes = output::bytes(self.bytes_per_second as u64);
        facts.add("now", format!("{:.0} records/s read, {bytes}/s", self.rows_per_second));
        facts.add("now", format!("{:.0} rows/s written", self.sink_rows_per_second));
        let lag = self.watermark_lag_ms.map(|lag| format!(", {} behind the clock", output::duration(lag)));
        let watermark = self.watermark.as_deref().unwrap_or("none");
        facts.add("watermark", format!("{watermark}{}", lag.unwrap_or_default()));
        let time = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), output::duration);
        let (last, p99) = (time(self.checkpoint_ms), time(self.checkpoint_p99_ms));
        facts.add("checkpoint", format!("the last took {last}, the 99th percentile is {p99}"));
        facts.add("memory", output::bytes(self.memory_bytes));
        facts.add("failures", format!("{} since this coordinator leads", self.failures));
    }
}

/// Jobs as a table.
pub(crate) fn table(jobs: &[JobReport]) -> String {
    let rows: Vec<_> = jobs.iter().map(JobReport::row).collect();
    output::table(
        &["job", "run", "status", "generation", "epoch", "parallelism", "executors", "group", "changed"],
        &rows,
    )
}

/// What is known of one thing, as lines for people.
#[derive(Default)]
pub(crate) struct Facts(Vec<(String, String)>);

impl Facts {
    pub(crate) fn add(&mut self, name: &str, value: impl ToString) {
        self.0.push((name.to_owned(), output::printable(&value.to_string())));
    }

    pub(crate) fn totals(&mut self, totals: &Totals) {
        for (table, count) in &totals.sources {
            self.add("read", format!("{} of {table}", output::counted(*count, "record", "records")));
        }
        for (table, sum) in &totals.sinks {
            self.add("written", format!("{} into {table}", output::counted(sum.rows, "row", "rows")));
        }
        self.add("late", totals.late);
        self.add("dead letters", totals.dead_lettered);
    }

    /// With its place and hint, as an error of a command is printed.
    pub(crate) fn error(&mut self, name: &str, error: &Error) {
        self.add(name, format!("{}: {}", error.code(), error.message()));
        if let Some(place) = error.place() {
            self.add("  at", place);
        }
        if let Some(hint) = error.hint_text() {
            self.add("  hint", hint);
        }
    }

    pub(crate) fn text(&self) -> String {
        self.0.iter().map(|(name, value)| format!("{name:<13}{value}\n")).collect()
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use qanat_client::Failure;
    use qanat_proto::rpc::control::{Place, place};

    use super::*;

    fn job(state: JobState) -> Job {
        let origin = place::Origin { origin: "/in/a.csv".to_owned(), offset: Some(12), unit: "byte".to_owned() };
        Job {
            id: "35b03a71ce54b7e3ea445a5c694d0e2d".to_owned(),
            name: "sales".to_owned(),
            group: "sales".to_owned(),
            state: state.into(),
            generation: 3,
            claimed_epoch: 17,
            committed_epoch: 16,
            parallelism: 2,
            parallelism_wanted: 4,
            executors: vec!["executor-1".to_owned(), "executor-2".to_owned()],
            failure: Some(Failure {
                code: "E0211".to_owned(),
                message: "a record is too long".to_owned(),
                hint: "raise the limit".to_owned(),
                place: Some(Place { at: Some(place::At::Origin(origin)) }),
            }),
            created_ms: 1_357_016_400_000,
            changed_ms: 1_357_016_401_000,
            totals: r#"{"epochs":17,"sources":{"i":1200},"sinks":{},"objects":{},"late":1,"dead_lettered":2}"#
                .to_owned(),
            ..Job::default()
        }
    }

    #[test]
    fn a_job_is_described_with_all_that_is_known() {
        let overview = JobOverview {
            rows_per_second: 1_234.5,
            watermark_ms: Some(1_357_016_400_000),
            watermark_lag_ms: Some(1_500),
            checkpoint_ms: Some(250),
            failures: 2,
            ..JobOverview::default()
        };
        expect![[r"
            job          sales
            run          35b03a71ce54b7e3ea445a5c694d0e2d
            status       RUNNING
            generation   3
            executors    executor-1, executor-2
            parallelism  2, 4 is asked for
            last epoch   17, visible is 16
            created      2013-01-01T05:00:00.000Z
            changed      2013-01-01T05:00:01.000Z
            read         1200 records of i
            late         1
            dead letters 2
            now          1234 records/s read, 0 B/s
            now          0 rows/s written
            watermark    2013-01-01T05:00:00.000Z, 1.5 s behind the clock
            checkpoint   the last took 250 ms, the 99th percentile is -
            memory       0 B
            failures     2 since this coordinator leads
            last error   E0211: a record is too long
              at         /in/a.csv, byte 12
              hint       raise the limit
        "]]
        .assert_eq(&JobReport::new(job(JobState::Running)).with(Some(overview)).text());
        let report = serde_json::to_value(JobReport::new(job(JobState::Running))).expect("json");
        assert_eq!(report["error"]["place"]["origin"]["offset"], 12, "{report}");
    }

    #[test]
    fn an_error_that_was_overcome_is_no_state() {
        let status = |job: Job| JobReport::new(job).status_text();
        assert_eq!(status(job(JobState::Running)), "RUNNING");
        assert_eq!(status(job(JobState::Stopped)), "STOPPED");
        assert_eq!(status(job(JobState::Restarting)), "RESTARTING (E0211)");
        assert_eq!(status(Job { stopping: true, ..job(JobState::Restarting) }), "RESTARTING (E0211, stopping)");
        assert_eq!(status(Job { stopping: true, ..job(JobState::Running) }), "RUNNING (stopping)");
        assert_eq!(status(job(JobState::Failed)), "FAILED (E0211)");
        assert!(!JobReport::new(job(JobState::Running)).line().contains("too long"));
        assert!(JobReport::new(job(JobState::Failed)).line().contains("(/in/a.csv, byte 12)"));
    }

    #[test]
    fn a_claim_alone_is_no_line_of_a_watch() {
        let (claimed, before) = (job(JobState::Running), Job { claimed_epoch: 16, ..job(JobState::Running) });
        let committed = Job { committed_epoch: 17, ..job(JobState::Running) };
        assert_eq!(JobReport::new(claimed.clone()).line(), JobReport::new(before).line());
        assert_ne!(JobReport::new(claimed).line(), JobReport::new(committed).line());
    }
}
