//! `qanat top`: how a cluster fares, live.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use qanat_client::{Client, JobOverview, Overview};
use qanat_proto::{Code, Error, Result};
use serde::Serialize;

use crate::cli::cluster::ClusterArguments;
use crate::cli::job_report::{Live, state_name};
use crate::cli::members::{CoordinatorLine, ExecutorLine};
use crate::output::{self, Format, duration, printable};

/// Show nodes, jobs, rates, lag, checkpoint times and backpressure of a cluster, again every second until Ctrl-C.
#[derive(Args, Debug)]
pub(crate) struct Top {
    /// Print one table and end; so it is too where standard output is no terminal, or with `-o`.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    cluster: ClusterArguments,
}

/// How often the screen is drawn anew.
const EVERY: Duration = Duration::from_secs(1);
/// The cursor to the top left, and everything behind it away.
const HOME: &str = "\x1b[H\x1b[J";
/// Another screen, without a cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// The whole of it, for programs.
#[derive(Serialize)]
struct Shown {
    cluster: String,
    leader: Option<String>,
    coordinators: Vec<CoordinatorLine>,
    executors: Vec<ExecutorLine>,
    jobs: Vec<ShownJob>,
}

#[derive(Serialize)]
struct ShownJob {
    name: String,
    job: String,
    state: String,
    generation: u64,
    parallelism: u32,
    committed_epoch: u64,
    #[serde(flatten)]
    live: Live,
    latency_p99_ms: Option<u64>,
    busy_ratio: f64,
    backpressured_ratio: f64,
    busiest: String,
}

impl Top {
    pub(crate) fn execute(&self, format: Format) -> Result<()> {
        let is_live = !self.once && format == Format::Table && std::io::stdout().is_terminal();
        self.cluster.ask(|client| async move {
            if is_live {
                return live(&client).await;
            }
            let shown = Shown::of(client.overview().await?);
            output::print_object(&shown, format, || shown.text());
            Ok(())
        })
    }
}

/// Puts the terminal back, whatever ends the command.
struct Screen;

impl Screen {
    fn draw(text: &str) -> Result<()> {
        let mut out = std::io::stdout().lock();
        let drawn = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        drawn.map_err(|e| Error::io("draw", &e))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = Self::draw(LEAVE);
    }
}

async fn live(client: &Client) -> Result<()> {
    let client = client.clone().with_deadline(EVERY * 5);
    let first = Shown::of(client.overview().await?);
    Screen::draw(ENTER)?;
    let _screen = Screen;
    let interrupted = tokio::signal::ctrl_c();
    let redraw = async {
        let mut shown = first;
        loop {
            Screen::draw(&format!("{HOME}{}", shown.text()))?;
            tokio::time::sleep(EVERY).await;
            match client.overview().await {
                Ok(overview) => shown = Shown::of(overview),
                // No leader for a while: what was seen last stays, with the reason.
                Err(error) if error.code() == Code::NoQuorum => {
                    Screen::draw(&format!("{HOME}{}\n{error}\n", shown.text()))?;
                }
                Err(error) => return Err(error),
            }
        }
    };
    tokio::select! {
        ended = redraw => ended,
        _ = interrupted => Ok(()),
    }
}

impl Shown {
    fn of(overview: Overview) -> Self {
        let status = overview.status.unwrap_or_default();
        let coordinators: Vec<CoordinatorLine> = status.coordinators.into_iter().map(Into::into).collect();
        Self {
            cluster: status.cluster,
            leader: coordinators.iter().find(|c| c.leads).map(|c| c.address.clone()),
            coordinators,
            executors: status.executors.into_iter().map(Into::into).collect(),
            jobs: overview.jobs.into_iter().map(ShownJob::of).collect(),
        }
    }

    fn text(&self) -> String {
        let up = self.coordinators.iter().filter(|c| c.up).count();
        let attached = self.executors.iter().filter(|e| e.attached).count();
        let head = format!(
            "cluster {}: {up} of {} up, leader {}; {attached} of {} attached\n",
            printable(&self.cluster),
            output::counted(self.coordinators.len() as u64, "coordinator", "coordinators"),
            self.leader.as_deref().map_or_else(|| "unknown".to_owned(), printable),
            output::counted(self.executors.len() as u64, "executor", "executors"),
        );
        let jobs = self.jobs.iter().map(ShownJob::cells);
        format!(
            "{head}\n{}\n{}\n{}",
            CoordinatorLine::table(&self.coordinators),
            ExecutorLine::table(&self.executors),
            output::table(
                &[
                    "job", "state", "gen", "par", "epoch", "rows/s", "read/s", "sunk/s", "lag", "ckpt", "ckpt p99",
                    "e2e p99", "busy", "blocked", "memory", "busiest"
                ],
                &jobs.collect::<Vec<_>>()
            )
        )
    }
}

impl ShownJob {
    fn of(overview: JobOverview) -> Self {
        let live = Live::of(&overview);
        let job = overview.job.unwrap_or_default();
        Self {
            state: state_name(&job),
            name: job.name,
            job: job.id,
            generation: job.generation,
            parallelism: job.parallelism,
            committed_epoch: job.committed_epoch,
            live,
            latency_p99_ms: overview.latency_p99_ms,
            busy_ratio: overview.busy_ratio,
            backpressured_ratio: overview.backpressured_ratio,
            busiest: overview.busiest,
        }
    }

    fn cells(&self) -> Vec<String> {
        let time = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), duration);
        let percent = |ratio: f64| format!("{:.0} %", ratio * 100.0);
        vec![
            printable(&self.name),
            self.state.clone(),
            self.generation.to_string(),
            self.parallelism.to_string(),
            self.committed_epoch.to_string(),
            format!("{:.0}", self.live.rows_per_second),
            output::bytes(self.live.bytes_per_second as u64),
            format!("{:.0}", self.live.sink_rows_per_second),
            time(self.live.watermark_lag_ms),
            time(self.live.checkpoint_ms),
            time(self.live.checkpoint_p99_ms),
            time(self.latency_p99_ms),
            percent(self.busy_ratio),
            percent(self.backpressured_ratio),
            output::bytes(self.live.memory_bytes),
            printable(&self.busiest),
        ]
    }
}

#[cfg(test)]
mod tests {
    use qanat_client::{ClusterStatus, Coordinator, Executor, Job};

    use super::*;

    #[test]
    fn a_table_holds_what_is_known_and_a_dash_for_the_rest() {
        let status = ClusterStatus {
            cluster: "c".to_owned(),
            coordinators: vec![
                Coordinator { id: 1, address: "h:1".to_owned(), leads: true, votes: true, down: false },
                Coordinator { id: 2, address: "h:2".to_owned(), leads: false, votes: true, down: true },
                Coordinator { id: 3, address: "h:3".to_owned(), leads: false, votes: false, down: false },
            ],
            executors: vec![Executor {
                node: "e\u{1b}[2J".to_owned(),
                slots: 2,
                attached: true,
                ..Executor::default()
            }],
        };
        let job = Job { name: "sales".to_owned(), state: 2, generation: 3, committed_epoch: 9, ..Job::default() };
        let overview = JobOverview {
            job: Some(job),
            rows_per_second: 12_345.6,
            watermark_lag_ms: Some(61_000),
            checkpoint_ms: Some(250),
            busy_ratio: 0.5,
            ..JobOverview::default()
        };
        let text = Shown::of(Overview { status: Some(status), jobs: vec![overview] }).text();
        assert!(
            text.starts_with("cluster c: 2 of 3 coordinators up, leader h:1; 1 of 1 executor attached\n"),
            "{text}"
        );
        let has = |row: &str| text.lines().any(|line| line.split_whitespace().eq(row.split(' ')));
        assert!(has("1 h:1 leads up") && has("2 h:2 follows down") && has("3 h:3 learns up"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        let line: Vec<&str> = text.lines().last().expect("a job").split_whitespace().collect();
        let expected = "sales RUNNING 3 0 9 12346 0 B 0 1 min 1 s 250 ms - - 50 % 0 % 0 B";
        assert_eq!(line.join(" "), expected);
    }
}
