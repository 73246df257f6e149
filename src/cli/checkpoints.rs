//! `qanat checkpoints`: the epochs of a job and what each would restore.

use clap::{Args, Subcommand};
use qanat_client::{Checkpoint, CheckpointReport};
use qanat_coordinator::raft::Reach;
use qanat_proto::Result;
use qanat_proto::ids::{Epoch, OperatorId};
use serde::Serialize;

use crate::cli::JobArguments;
use crate::cli::cluster::ClusterArguments;
use crate::inspect::checkpoints;
use crate::output::{self, Format};

#[derive(Debug, Subcommand)]
pub(crate) enum Checkpoints {
    /// List the epochs of a job, oldest first.
    List(List),
    /// Show one epoch: source positions, watermarks, state files, prepared output.
    Describe(Describe),
}

#[derive(Args, Debug)]
pub(crate) struct List {
    /// Name of the job, its id or the first digits of it.
    name: String,
    /// Show only the newest N.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    job: JobArguments,
    #[command(flatten)]
    cluster: ClusterArguments,
}

#[derive(Args, Debug)]
pub(crate) struct Describe {
    /// Name of the job, its id or the first digits of it.
    name: String,
    /// Number of the epoch.
    epoch: u64,
    #[command(flatten)]
    job: JobArguments,
    #[command(flatten)]
    cluster: ClusterArguments,
}

/// One epoch in a list.
#[derive(Debug, Serialize)]
struct Line {
    epoch: u64,
    generation: u64,
    status: String,
    is_final: bool,
    /// None for an epoch whose receipt is not kept any more.
    claimed: Option<String>,
    /// Time from claim to commit.
    commit_ms: Option<i64>,
    /// Records read and rows written in this epoch.
    read: u64,
    written: u64,
    /// None where the manifest was retired or cannot be read.
    state_files: Option<u64>,
    state_bytes: Option<u64>,
    manifest: String,
}

impl Checkpoints {
    pub(crate) fn execute(&self, format: Format) -> Result<()> {
        match self {
            Self::List(command) => command.execute(format),
            Self::Describe(command) => command.execute(format),
        }
    }
}

impl List {
    fn execute(&self, format: Format) -> Result<()> {
        let run = self.job.run.as_deref();
        let listed = if self.cluster.is_used(self.job.folder_option())? {
            self.cluster.ask(|client| async move { client.checkpoints(&self.name, run, self.limit).await })?
        } else {
            let view = self.job.view()?;
            let found = view.job(&self.name, run, Reach::History)?;
            checkpoints::list(&view, &found, self.limit.unwrap_or(usize::MAX))
        };
        let lines: Vec<Line> = listed.into_iter().map(line).collect();
        output::print_object(&lines, format, || output::table(&HEADER, &lines.iter().map(row).collect::<Vec<_>>()));
        Ok(())
    }
}

const HEADER: [&str; 8] = ["epoch", "generation", "status", "claimed", "read", "written", "state", "files"];

fn line(checkpoint: Checkpoint) -> Line {
    Line {
        epoch: checkpoint.epoch,
        generation: checkpoint.generation,
        status: checkpoint.status,
        is_final: checkpoint.r#final,
        claimed: checkpoint.claimed_ms.map(output::time),
        commit_ms: checkpoint.commit_ms,
        read: checkpoint.read,
        written: checkpoint.written,
        state_files: checkpoint.state_files,
        state_bytes: checkpoint.state_bytes,
        manifest: checkpoint.manifest,
    }
}

fn row(line: &Line) -> Vec<String> {
    let status = if line.is_final { format!("{} (final)", line.status) } else { line.status.clone() };
    vec![
        line.epoch.to_string(),
        line.generation.to_string(),
        status,
        line.claimed.clone().unwrap_or_else(|| "-".to_owned()),
        line.read.to_string(),
        line.written.to_string(),
        line.state_bytes.map_or_else(|| "-".to_owned(), output::bytes),
        line.state_files.map_or_else(|| "-".to_owned(), |files| files.to_string()),
    ]
}

impl Describe {
    fn execute(&self, format: Format) -> Result<()> {
        let run = self.job.run.as_deref();
        let report = if self.cluster.is_used(self.job.folder_option())? {
            self.cluster.ask(|client| async move { client.checkpoint(&self.name, run, self.epoch).await })?
        } else {
            let view = self.job.view()?;
            let found = view.job(&self.name, run, Reach::History)?;
            checkpoints::describe(&view, &found, Epoch(self.epoch))?
        };
        let line = line(report.checkpoint.clone());
        let object = Described { epoch: &line, details: &report.details };
        output::print_object(&object, format, || text(&line, &report));
        Ok(())
    }
}

#[derive(Serialize)]
struct Described<'a> {
    epoch: &'a Line,
    #[serde(flatten)]
    details: &'a qanat_client::CheckpointDetails,
}

fn text(line: &Line, report: &CheckpointReport) -> String {
    let details = &report.details;
    let mut text = output::table(&HEADER, &[row(line)]);
    text.push_str(&format!("\nmanifest  {}\n", line.manifest));
    let (Some(sources), Some(operators)) = (&details.sources, &details.operators) else {
        text.push_str("\nThe manifest was retired: a later epoch is restored instead.\n");
        return text;
    };
    let name_of = |id: OperatorId| report.operators.get(&id).cloned();
    let mut rows = Vec::new();
    for source in sources {
        let name = name_of(source.operator).unwrap_or_default();
        for split in &source.splits {
            let state = match (split.finished, split.idle) {
                (true, _) => "finished",
                (false, true) => "idle",
                (false, false) => "",
            };
            rows.push(vec![
                name.clone(),
                split.id.to_string(),
                split.position.to_string(),
                split.rows.to_string(),
                watermark(split.watermark),
                state.to_owned(),
            ]);
        }
    }
    text.push('\n');
    text.push_str(&output::table(&["source", "split", "position", "records", "watermark", ""], &rows));
    let mut rows = Vec::new();
    for operator in operators {
        let name = name_of(operator.operator).unwrap_or_else(|| operator.operator.to_string());
        let lowest = operator.watermarks.iter().map(|(_, watermark)| *watermark).min().flatten();
        let files = operator.tables.iter().flat_map(|table| &table.files);
        let (count, bytes) = files.fold((0, 0), |(count, bytes), file| (count + 1, bytes + file.bytes));
        rows.push(vec![name, watermark(lowest), output::bytes(bytes), count.to_string()]);
    }
    text.push('\n');
    text.push_str(&output::table(&["operator", "watermark", "state", "files"], &rows));
    if !details.prepared.is_empty() {
        let rows: Vec<Vec<String>> = details
            .prepared
            .iter()
            .map(|handle| vec![handle.name.clone(), handle.sum.rows.to_string(), handle.sum.hash.to_string()])
            .collect();
        text.push('\n');
        text.push_str(&output::table(&["output", "rows", "hash"], &rows));
    }
    text
}

fn watermark(watermark: Option<i64>) -> String {
    match watermark {
        None => "none".to_owned(),
        Some(i64::MAX) => "end of input".to_owned(),
        Some(ms) => output::time(ms),
    }
}
