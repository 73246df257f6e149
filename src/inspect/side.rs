//! Rows that jobs put aside: too late, or dead letters.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use qanat_client::{DeadLetter, LateRow, SideQuery};
use qanat_connectors::side::{SideReader, dead_letter_entries, late_entries, topic_name};
use qanat_coordinator::raft::Reach;
use qanat_proto::ids::Epoch;
use qanat_proto::manifest::SinkChannel;
use qanat_proto::owner::{Readmission, ReadmitInto};
use qanat_proto::{Code, EpochRanges, Result};
use qanat_storage::log::Topics;

use crate::data_folder::DataView;

/// Late rows, in parts, until `part` says that it wants no more.
///
/// # Errors
/// E0309 for a job or run that is not there.
pub(crate) fn late(view: &DataView, query: &SideQuery, part: impl FnMut(Vec<LateRow>) -> bool) -> Result<()> {
    entries(view, query, SinkChannel::Late, late_entries, |row| (&row.job, row.epoch), part)
}

/// Dead letters, likewise.
///
/// # Errors
/// E0309 for a job or run that is not there.
pub(crate) fn dead_letters(
    view: &DataView,
    query: &SideQuery,
    part: impl FnMut(Vec<DeadLetter>) -> bool,
) -> Result<()> {
    entries(view, query, SinkChannel::DeadLetters, dead_letter_entries, |row| (&row.job, row.epoch), part)
}

fn entries<E>(
    view: &DataView,
    query: &SideQuery,
    channel: SinkChannel,
    decode: fn(u64, &RecordBatch) -> Vec<E>,
    from: fn(&E) -> (&str, i64),
    mut part: impl FnMut(Vec<E>) -> bool,
) -> Result<()> {
    let topics = view.topics()?;
    check_job(view, &topics, &query.job, channel)?;
    let mut reader = SideReader::open(&topics, &query.job, channel, 0)?;
    let run = query.run.as_deref().unwrap_or_default();
    let withdrawn = Withdrawn::of(view, &query.job);
    let mut left = query.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let mut found = 0;
    while left > 0
        && let Some((first, rows)) = reader.next_batch()?
    {
        let counts = |entry: &E| {
            let (job, epoch) = from(entry);
            job.starts_with(run) && !withdrawn.contains(job, epoch)
        };
        let chosen: Vec<E> = decode(first, &rows).into_iter().filter(counts).take(left).collect();
        left -= chosen.len();
        found += chosen.len();
        if !chosen.is_empty() && !part(chosen) {
            return Ok(());
        }
    }
    if found == 0 && left > 0 {
        check_run(view, &query.job, query.run.as_deref())?;
    }
    Ok(())
}

/// Epochs of a job's runs that rollbacks took back: their rows in side tables count no more (P10).
#[derive(Default)]
struct Withdrawn(BTreeMap<String, EpochRanges>);

impl Withdrawn {
    /// A folder without the job's own state tells of none.
    fn of(view: &DataView, name: &str) -> Self {
        let jobs = view.jobs(Reach::State).unwrap_or_default().into_iter().map(|found| found.history);
        let own = jobs.filter(|run| run.name == name && !run.job.withdrawn.is_empty());
        Self(own.map(|run| (run.id.to_string(), run.job.withdrawn)).collect())
    }

    fn contains(&self, job: &str, epoch: i64) -> bool {
        let epoch = Epoch(u64::try_from(epoch).unwrap_or(0));
        self.0.get(job).is_some_and(|epochs| epochs.contains(epoch))
    }
}

/// What is asked for when entries of a job are readmitted, with what has to be known of the job.
///
/// # Errors
/// E0304 for damaged topics.
pub(crate) fn readmission(
    view: &DataView,
    name: &str,
    channel: SinkChannel,
    run: Option<&str>,
    into: ReadmitInto,
) -> Result<Readmission> {
    let unknown = |checked: Result<()>| match checked {
        Ok(()) => Ok(None),
        Err(error) if error.code() == Code::UnknownJob => Ok(Some(error)),
        Err(error) => Err(error),
    };
    Ok(Readmission {
        job: name.to_owned(),
        channel,
        into,
        ids: None,
        run: run.map(str::to_owned),
        limit: None,
        request: String::new(),
        withdrawn: Withdrawn::of(view, name).0,
        unknown_job: unknown(check_job(view, &view.topics()?, name, channel))?,
        unknown_run: unknown(check_run(view, name, run))?,
    })
}

/// A job without side tables must at least be a job: E0309 for a misspelt name, not an empty list.
fn check_job(view: &DataView, topics: &Topics, name: &str, channel: SinkChannel) -> Result<()> {
    let topic = topic_name(name, channel);
    if let Ok(topic) = topic
        && topics.find(&topic)?.is_some()
    {
        return Ok(());
    }
    match view.job(name, None, Reach::State) {
        Err(error) if error.code() == Code::UnknownJob => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// E0309 for a run that neither has entries nor is known to the job.
fn check_run(view: &DataView, name: &str, run: Option<&str>) -> Result<()> {
    match run {
        Some(run) => view.job(name, Some(run), Reach::State).map(drop),
        None => Ok(()),
    }
}
