//! `qanat checkpoints`: the epochs of a job and what each would restore.

use clap::{Args, Subcommand};
use qanat_coordinator::raft::Reach;
use qanat_proto::ids::Epoch;
use qanat_proto::manifest::Manifest;
use qanat_proto::{Code, Error, Place, Result};
use serde::Serialize;

use crate::cli::JobArguments;
use crate::data_folder::{DataView, FoundJob};
use crate::history::{EpochHistory, EpochStatus};
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
    /// Name of the job.
    name: String,
    /// Show only the newest N.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    job: JobArguments,
}

#[derive(Args, Debug)]
pub(crate) struct Describe {
    /// Name of the job.
    name: String,
    /// Number of the epoch.
    epoch: u64,
    #[command(flatten)]
    job: JobArguments,
}

/// One epoch in a list.
#[derive(Debug, Serialize)]
struct Line {
    epoch: Epoch,
    generation: u64,
    status: EpochStatus,
    is_final: bool,
    /// None for an epoch whose receipt is not kept any more.
    claimed: Option<String>,
    /// Time from claim to commit.
    commit_ms: Option<i64>,
    /// Records read and rows written in this epoch.
    read: u64,
    written: u64,
    /// None where the manifest was retired or cannot be read.
    state_files: Option<usize>,
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
        let view = self.job.view()?;
        let found = view.job(&self.name, self.job.run.as_deref(), Reach::History)?;
        let epochs = &found.history.epochs;
        let skipped = self.limit.map_or(0, |limit| epochs.len().saturating_sub(limit));
        let lines: Vec<Line> =
            epochs.iter().skip(skipped).map(|(epoch, history)| line(&view, &found, *epoch, history)).collect();
        output::print_object(&lines, format, || {
            let header = ["epoch", "generation", "status", "claimed", "read", "written", "state", "files"];
            output::table(&header, &lines.iter().map(row).collect::<Vec<_>>())
        });
        Ok(())
    }
}

fn line(view: &DataView, found: &FoundJob, epoch: Epoch, history: &EpochHistory) -> Line {
    let manifest = manifest(view, found, history).ok().flatten();
    let (read, written) = history.receipt.as_ref().map_or((0, 0), |receipt| {
        let splits = receipt.sources.iter().flat_map(|source| &source.splits);
        let objects = receipt.sinks.iter().flat_map(|sink| &sink.objects);
        (splits.map(|split| split.rows).sum(), objects.map(|object| object.sum.rows).sum())
    });
    Line {
        epoch,
        generation: history.generation.0,
        status: history.status,
        is_final: history.is_final,
        claimed: history.claimed_ms.map(output::time),
        commit_ms: history.committed_ms.zip(history.claimed_ms).map(|(committed, claimed)| committed - claimed),
        read,
        written,
        state_files: manifest.as_ref().map(|manifest| state_files(manifest).0),
        state_bytes: manifest.as_ref().map(|manifest| state_files(manifest).1),
        manifest: history.manifest_key.clone(),
    }
}

fn row(line: &Line) -> Vec<String> {
    let status = if line.is_final { format!("{} (final)", line.status.name()) } else { line.status.name().to_owned() };
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

/// The manifest of an epoch, checked against its claim; None once it was retired.
fn manifest(view: &DataView, found: &FoundJob, history: &EpochHistory) -> Result<Option<Manifest>> {
    if history.status == EpochStatus::Retired {
        return Ok(None);
    }
    found.checkpoints(&view.env)?.read_manifest(&history.manifest_key, &history.checksum).map(Some)
}

/// Number and bytes of the state files that a manifest lists. A file that several subtasks share after a
/// rescale counts once.
fn state_files(manifest: &Manifest) -> (usize, u64) {
    let tables = manifest.operators.iter().flat_map(|operator| &operator.tables);
    let files: std::collections::BTreeMap<&str, u64> =
        tables.flat_map(|table| &table.files).map(|file| (file.object.as_str(), file.bytes)).collect();
    (files.len(), files.values().sum())
}

impl Describe {
    fn execute(&self, format: Format) -> Result<()> {
        let view = self.job.view()?;
        let found = view.job(&self.name, self.job.run.as_deref(), Reach::History)?;
        let epoch = Epoch(self.epoch);
        let history = found.history.epochs.get(&epoch).ok_or_else(|| {
            let last = found.history.last_epoch();
            Error::new(Code::Usage, format!("job `{}` has no epoch {epoch}", self.name))
                .at(Place::Named(found.history.id.to_string()))
                .hint(format!("its epochs are 0 to {last}"))
        })?;
        let manifest = manifest(&view, &found, history)?;
        let line = line(&view, &found, epoch, history);
        // The graph is long and the same in every epoch: `explain` shows it.
        let object = serde_json::json!({
            "epoch": line,
            "sources": manifest.as_ref().map(|manifest| &manifest.sources),
            "operators": manifest.as_ref().map(|manifest| &manifest.operators),
            "prepared": history.handles,
            "receipt": history.receipt,
            "totals": manifest.as_ref().map(|manifest| &manifest.totals),
        });
        output::print_object(&object, format, || text(&line, history, manifest.as_ref()));
        Ok(())
    }
}

fn text(line: &Line, history: &EpochHistory, manifest: Option<&Manifest>) -> String {
    let header = ["epoch", "generation", "status", "claimed", "read", "written", "state", "files"];
    let mut text = output::table(&header, &[row(line)]);
    text.push_str(&format!("\nmanifest  {}\n", line.manifest));
    let Some(manifest) = manifest else {
        text.push_str("\nThe manifest was retired: a later epoch is restored instead.\n");
        return text;
    };
    let mut rows = Vec::new();
    for source in &manifest.sources {
        let name = manifest.graph.operator(source.operator).map_or_else(String::new, |o| o.name.clone());
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
    for operator in &manifest.operators {
        let name = manifest
            .graph
            .operator(operator.operator)
            .map_or_else(|| operator.operator.to_string(), |o| o.name.clone());
        let lowest = operator.watermarks.iter().map(|(_, watermark)| *watermark).min().flatten();
        let files = operator.tables.iter().flat_map(|table| &table.files);
        let (count, bytes) = files.fold((0, 0), |(count, bytes), file| (count + 1, bytes + file.bytes));
        rows.push(vec![name, watermark(lowest), output::bytes(bytes), count.to_string()]);
    }
    text.push('\n');
    text.push_str(&output::table(&["operator", "watermark", "state", "files"], &rows));
    if !history.handles.is_empty() {
        let rows: Vec<Vec<String>> = history
            .handles
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
