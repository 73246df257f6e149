//! `readmit`: late rows and dead letters written where a job can read them, each exactly once.
//!
//! ```text
//! 1. stage the rows (a topic) or write a hidden file beside the one that is wanted
//! 2. note `begun` in the topic <job>.readmitted: which entries go where
//! 3. publish: commit the staged rows, or give the hidden file its free name
//! 4. note `done`
//! ```
//! Publishing can be repeated: a topic remembers its handles (P12), and a hidden file that is gone was
//! published, even if somebody moved it away since. Whatever dies in between is completed by the next
//! call. An entry that stands in any note is never chosen again.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use clap::Args;
use qanat_connectors::format::json::{JsonDecoder, JsonOptions};
use qanat_connectors::format::reader::{DecodeRequest, Policy};
use qanat_connectors::format::text::RecordDecoder;
use qanat_connectors::side::{SideReader, dead_letter_entries, late_entries, topic_name};
use qanat_proto::ids::{Epoch, Generation, JobId, OperatorId, SubtaskId, Token};
use qanat_proto::manifest::SinkChannel;
use qanat_proto::names::{Name, Origin};
use qanat_proto::{Code, Error, Place, Result};
use qanat_storage::crash_safe;
use qanat_storage::env::Env;
use qanat_storage::env::failpoint::failpoint;
use qanat_storage::log::{AppendOptions, Isolation, StagedHandle, Start, Topic, TopicSpec, Topics};
use serde::{Deserialize, Serialize};

use crate::cli::DataArguments;
use crate::cli::cluster::ClusterArguments;
use crate::data_folder::{DataFolder, DataView};
use crate::inspect::side::{Withdrawn, check_job, check_run};
use crate::output::{self, Format};
use crate::small_file;

/// Rows per batch that is staged.
const BATCH_ROWS: usize = 8_192;

#[derive(Args, Debug)]
#[group(skip)]
pub(crate) struct Readmit {
    /// Name of the job.
    name: String,
    /// New file: one record (or JSON object) per line. It appears whole, or not at all.
    #[arg(long, value_name = "PATH", required_unless_present = "into_topic", conflicts_with = "into_topic")]
    into_file: Option<PathBuf>,
    /// Existing topic. Its columns are filled from JSON objects by name; a topic with one STRING or BYTES
    /// column, or none yet, takes the records as they are.
    #[arg(long, value_name = "TOPIC")]
    into_topic: Option<String>,
    /// First line of the file, for CSV tables that read a header.
    #[arg(long, value_name = "LINE", requires = "into_file")]
    header: Option<String>,
    /// Only these entries, by their ids (`3,7-9`).
    #[arg(long, value_name = "IDS")]
    ids: Option<String>,
    /// Only entries of this run: its id, or the first digits of it.
    #[arg(long, value_name = "JOBID")]
    run: Option<String>,
    /// At most N entries.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    data: DataArguments,
    #[command(flatten)]
    cluster: ClusterArguments,
}

/// Where entries went, durable enough to do it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Target {
    File {
        path: PathBuf,
        /// Hidden, in the same folder. None in notes of versions that wrote the file only when it was published.
        #[serde(default)]
        draft: Option<PathBuf>,
        header: Option<String>,
        bytes: u64,
        crc32c: u32,
    },
    Topic(StagedHandle),
}

/// One line of the topic `<job>.readmitted`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    batch: u64,
    is_done: bool,
    channel: SinkChannel,
    /// Id of the side table's topic: one that was deleted and made anew counts its entries from 0 again.
    #[serde(default)]
    side_table: u64,
    ids: String,
    target: Target,
}

/// What one call did.
#[derive(Debug, Serialize)]
struct Outcome {
    readmitted: usize,
    into: Option<String>,
    ids: String,
    /// Batches of earlier calls that were interrupted, completed now.
    completed: usize,
}

/// One entry on its way.
struct Record {
    id: u64,
    bytes: Vec<u8>,
}

impl Readmit {
    pub(super) fn execute(&self, channel: SinkChannel, format: Format) -> Result<()> {
        self.cluster.refuse("entries are readmitted by one process")?;
        let env = Env::real();
        let wanted = self.ids.as_deref().map(parse_ids).transpose()?;
        let view = DataView::open(&env, &self.data.data, None)?;
        check_job(&view, &view.topics()?, &self.name, channel)?;
        let data = DataFolder::open(&env, &self.data.data)?;
        let memory = Memory::open(&data.topics, &self.name)?;
        let notes = memory.notes()?;
        let completed = self.complete(&env, &data.topics, &memory, &notes)?;
        let side_table = side_table(&data.topics, &self.name, channel)?;
        let taken = taken(&notes, channel, side_table)?;
        let choose = |id: u64| !taken.contains(&id) && wanted.as_ref().is_none_or(|wanted| wanted.contains(&id));
        let run = self.run.as_deref().unwrap_or_default();
        let limit = self.limit.unwrap_or(usize::MAX);
        check_ids(&data.topics, &self.name, channel, wanted.as_ref())?;
        let saw_run = Cell::new(false);
        let of_run = |job: &str| {
            let found = job.starts_with(run);
            saw_run.set(saw_run.get() || found);
            found
        };
        let withdrawn = Withdrawn::of(&data.view(), &self.name);
        let records = records(&data.topics, &self.name, channel, limit, |id, job, epoch| {
            of_run(job) && choose(id) && !withdrawn.contains(job, epoch)
        })?;
        if !saw_run.get() {
            check_run(&view, &self.name, self.run.as_deref())?;
        }
        let ids = ranges(&records.iter().map(|record| record.id).collect());
        let mut outcome = Outcome { readmitted: records.len(), into: None, ids: ids.clone(), completed };
        if !records.is_empty() {
            let batch = notes.iter().map(|note| note.batch).max().unwrap_or(0) + 1;
            let target = match (&self.into_topic, &self.into_file) {
                (Some(topic), _) => stage(&env, &data.topics, owner(&env, &notes), topic, batch, &records)?,
                (None, Some(path)) => stage_file(&env, path, self.header.as_deref(), &records)?,
                (None, None) => return Err(Error::new(Code::Usage, "say where to: --into-file or --into-topic")),
            };
            outcome.into = Some(match &target {
                Target::File { path, .. } => path.display().to_string(),
                Target::Topic(handle) => handle.topic.clone(),
            });
            failpoint("readmit.staged");
            let note = Note { batch, is_done: false, channel, side_table, ids, target };
            memory.append(&note)?;
            failpoint("readmit.noted");
            publish(&env, &data.topics, &note, &records)?;
            failpoint("readmit.published");
            memory.append(&Note { is_done: true, ..note })?;
            failpoint("readmit.done");
        }
        output::print_object(&outcome, format, || outcome.text());
        Ok(())
    }

    /// Publishes what earlier calls noted and did not finish. Returns how many batches.
    fn complete(&self, env: &Env, topics: &Topics, memory: &Memory, notes: &[Note]) -> Result<usize> {
        let mut completed = 0;
        for note in open_notes(notes) {
            let ids = parse_ids(&note.ids)?;
            let is_there = note.side_table == side_table(topics, &self.name, note.channel)?;
            let records =
                records(topics, &self.name, note.channel, usize::MAX, |id, _, _| is_there && ids.contains(&id))?;
            publish(env, topics, note, &records)?;
            memory.append(&Note { is_done: true, ..note.clone() })?;
            completed += 1;
        }
        Ok(completed)
    }
}

impl Outcome {
    fn text(&self) -> String {
        let mut text = match &self.into {
            None => "nothing left to readmit".to_owned(),
            Some(into) => format!("readmitted {} entries into {into} (ids {})", self.readmitted, self.ids),
        };
        if self.completed > 0 {
            text.push_str(&format!("\ncompleted {} batches that were interrupted", self.completed));
        }
        text
    }
}

/// The notes of a job.
struct Memory {
    topic: Arc<Topic>,
    schema: SchemaRef,
}

impl Memory {
    fn open(topics: &Topics, job_name: &str) -> Result<Self> {
        let topic = topics.get_or_create(&Name::new(&format!("{job_name}.readmitted"))?, TopicSpec::new(1))?;
        let schema = Arc::new(Schema::new(vec![Field::new("note", DataType::Utf8, false)]));
        topic.declare_schema(&schema)?;
        Ok(Self { topic, schema })
    }

    fn notes(&self) -> Result<Vec<Note>> {
        let mut notes = Vec::new();
        let mut batches = self.topic.read_to_latest(0, Start::Earliest, Isolation::Committed)?;
        while let Some(batch) = batches.next()? {
            let unknown = |why: String| {
                Error::new(
                    Code::UnknownVersion,
                    format!("topic `{}` holds a note that cannot be read: {why}", self.topic.name()),
                )
            };
            let texts = batch.rows.column(0).as_string_opt::<i32>().ok_or_else(|| unknown("no text".to_owned()))?;
            for text in texts.iter().flatten() {
                notes.push(serde_json::from_str(text).map_err(|e| unknown(e.to_string()))?);
            }
        }
        Ok(notes)
    }

    /// Durable when it returns.
    fn append(&self, note: &Note) -> Result<()> {
        let text = serde_json::to_string(note).map_err(|e| Error::internal(format!("write a note: {e}")))?;
        let column: ArrayRef = Arc::new(StringArray::from(vec![text]));
        let rows = RecordBatch::try_new(self.schema.clone(), vec![column])
            .map_err(|e| Error::internal(format!("write a note: {e}")))?;
        self.topic.append(0, &rows, &AppendOptions::default()).map(drop)
    }
}

/// Notes that were begun and not done.
fn open_notes(notes: &[Note]) -> impl Iterator<Item = &Note> {
    let done: BTreeSet<u64> = notes.iter().filter(|note| note.is_done).map(|note| note.batch).collect();
    notes.iter().filter(move |note| !note.is_done && !done.contains(&note.batch))
}

/// Which topic of its name a side table is; 0 for none.
fn side_table(topics: &Topics, job_name: &str, channel: SinkChannel) -> Result<u64> {
    Ok(topics.find(&topic_name(job_name, channel)?)?.map_or(0, |topic| topic.id()))
}

/// Entries of a side table that stand in any note.
fn taken(notes: &[Note], channel: SinkChannel, side_table: u64) -> Result<BTreeSet<u64>> {
    let mut taken = BTreeSet::new();
    let is_of = |note: &&Note| (note.channel, note.side_table) == (channel, side_table) && !note.is_done;
    for note in notes.iter().filter(is_of) {
        taken.extend(parse_ids(&note.ids)?);
    }
    Ok(taken)
}

/// A mistyped id is no entry that was readmitted before.
fn check_ids(topics: &Topics, job_name: &str, channel: SinkChannel, ids: Option<&BTreeSet<u64>>) -> Result<()> {
    let Some(last) = ids.and_then(BTreeSet::last) else { return Ok(()) };
    let entries = match topics.find(&topic_name(job_name, channel)?)? {
        Some(topic) => topic.partition(0)?.end_offset(),
        None => 0,
    };
    if *last < entries {
        return Ok(());
    }
    let there = match entries {
        0 => "there are none".to_owned(),
        _ => format!("the last one is {}", entries - 1),
    };
    Err(Error::new(Code::Usage, format!("job `{job_name}` has no entry {last}: {there}")).hint("`list` shows the ids"))
}

/// The chosen entries of a side table, as bytes: raw records, or JSON objects of rows.
fn records(
    topics: &Topics,
    job_name: &str,
    channel: SinkChannel,
    limit: usize,
    choose: impl Fn(u64, &str, i64) -> bool,
) -> Result<Vec<Record>> {
    let mut reader = SideReader::open(topics, job_name, channel, 0)?;
    let mut records = Vec::new();
    while records.len() < limit
        && let Some((first, rows)) = reader.next_batch()?
    {
        let left = limit - records.len();
        if channel == SinkChannel::Late {
            let chosen = late_entries(first, &rows).into_iter().filter(|e| choose(e.id, &e.job, e.epoch));
            records.extend(chosen.take(left).map(|e| Record { id: e.id, bytes: e.row.into_bytes() }));
        } else {
            let chosen = dead_letter_entries(first, &rows).into_iter().filter(|e| choose(e.id, &e.job, e.epoch));
            records.extend(chosen.take(left).map(|entry| Record {
                id: entry.id,
                bytes: entry.raw.or_else(|| entry.text.map(String::into_bytes)).unwrap_or_default(),
            }));
        }
    }
    Ok(records)
}

/// Does what a note says; a repeat changes nothing.
fn publish(env: &Env, topics: &Topics, note: &Note, records: &[Record]) -> Result<()> {
    match &note.target {
        Target::Topic(handle) => {
            topics.topic(&Name::new(&handle.topic)?)?.commit(std::slice::from_ref(handle)).map(drop)
        }
        Target::File { path, draft: Some(draft), .. } => match env.disk.rename_no_replace(draft, path) {
            Ok(()) => sync_folder(env, path),
            // An earlier call got so far.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => sync_folder(env, path),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Err(taken_name(path)),
            Err(e) => Err(Error::io(format!("publish `{}`", path.display()), &e)),
        },
        Target::File { path, draft: None, header, bytes, crc32c } => {
            if let Some(found) = small_file::read(env, path, u64::MAX)? {
                // An earlier call got so far, or somebody else took the name.
                return if (found.len() as u64, crc32c::crc32c(&found)) == (*bytes, *crc32c) {
                    Ok(())
                } else {
                    Err(taken_name(path))
                };
            }
            crash_safe::write_new(env, path, &lines(header.as_deref(), records)).map_err(|e| match e {
                crash_safe::Error::Exists(_) => taken_name(path),
                e @ (crash_safe::Error::Io { .. } | crash_safe::Error::Sync { .. }) => e.into(),
            })
        }
    }
}

fn taken_name(path: &Path) -> Error {
    Error::new(Code::SinkConflict, "there is another file of this name")
        .at(Place::Named(path.display().to_string()))
        .hint("move it away, or name another one with --into-file")
}

fn lines(header: Option<&str>, records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let texts = header.map(str::as_bytes).into_iter().chain(records.iter().map(|record| record.bytes.as_slice()));
    for text in texts {
        bytes.extend_from_slice(text);
        bytes.push(b'\n');
    }
    bytes
}

/// A name that is free, and the content beside it under a hidden one.
fn stage_file(env: &Env, path: &Path, header: Option<&str>, records: &[Record]) -> Result<Target> {
    let base = std::env::current_dir().map_err(|e| Error::io("find the working directory", &e))?;
    let path = base.join(path);
    if small_file::read(env, &path, u64::MAX)?.is_some() {
        return Err(taken_name(&path));
    }
    // Random: what a call wrote that died before its note is nobody's.
    let draft = crash_safe::folder_of(&path).join(format!(".readmit-{:032x}", env.entropy.u128()));
    let content = lines(header, records);
    crash_safe::write_new(env, &draft, &content)?;
    let (bytes, crc32c) = (content.len() as u64, crc32c::crc32c(&content));
    Ok(Target::File { path, draft: Some(draft), header: header.map(str::to_owned), bytes, crc32c })
}

fn sync_folder(env: &Env, path: &Path) -> Result<()> {
    let folder = crash_safe::folder_of(path);
    match env.disk.sync_dir(folder) {
        Ok(()) => Ok(()),
        // Moved away with all that was in it.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io(format!("sync `{}`", folder.display()), &e)),
    }
}

/// In whose name rows are staged: not a run of a job, but an id of this memory's own. A topic remembers per
/// id the newest batch (P12), so that a memory that was deleted and begins again at batch 1 needs another.
fn owner(env: &Env, notes: &[Note]) -> JobId {
    let known = notes.iter().rev().find_map(|note| match &note.target {
        Target::Topic(handle) => Origin::parse_object(&handle.name).map(|(origin, _)| origin.token.job),
        Target::File { .. } => None,
    });
    known.unwrap_or_else(|| JobId(env.entropy.u128()))
}

/// Stages the records in a topic: invisible until they are committed.
fn stage(env: &Env, topics: &Topics, job: JobId, topic: &str, batch: u64, records: &[Record]) -> Result<Target> {
    let topic = topics.topic(&Name::new(topic)?)?;
    let rows = rows(&topic, records)?;
    let subtask = SubtaskId { operator: OperatorId(0), index: 0 };
    let origin = Origin { token: Token { job, generation: Generation(0) }, epoch: Epoch(batch), subtask };
    // Random: what a call staged that died before its note is nobody's.
    let mut staging = topic.stage(origin, env.entropy.u64());
    for (partition, batch) in (0..topic.partitions()).cycle().zip(rows) {
        staging.write(partition, &batch, None)?;
    }
    staging.prepare().map(Target::Topic)
}

/// Records as rows of a topic.
fn rows(topic: &Topic, records: &[Record]) -> Result<Vec<RecordBatch>> {
    let plain = || Arc::new(Schema::new(vec![Field::new("record", DataType::Utf8, false)]));
    let schema = topic.schema().unwrap_or_else(plain);
    let single = match schema.fields().iter().as_slice() {
        [field] => Some(field.data_type().clone()),
        _ => None,
    };
    let made = |e: arrow::error::ArrowError| Error::internal(format!("make rows of records: {e}"));
    let mut batches = Vec::new();
    for chunk in records.chunks(BATCH_ROWS) {
        let column: ArrayRef = match single {
            Some(DataType::Binary) => Arc::new(BinaryArray::from_iter_values(chunk.iter().map(|r| &r.bytes))),
            Some(DataType::Utf8) => {
                let text = |record| text_of(record).map_err(|why| unfit(topic, record, &why));
                Arc::new(StringArray::from(chunk.iter().map(text).collect::<Result<Vec<&str>>>()?))
            }
            _ => {
                batches.push(decode(topic, &schema, chunk)?);
                continue;
            }
        };
        batches.push(RecordBatch::try_new(schema.clone(), vec![column]).map_err(made)?);
    }
    Ok(batches)
}

fn text_of(record: &Record) -> Result<&str, String> {
    std::str::from_utf8(&record.bytes).map_err(|e| format!("it is not UTF-8: {e}"))
}

/// JSON objects by the names of columns, read as a table of format `json` reads them.
fn decode(topic: &Topic, schema: &SchemaRef, records: &[Record]) -> Result<RecordBatch> {
    let request = DecodeRequest {
        columns: Arc::clone(schema),
        projection: (0..schema.fields().len()).collect(),
        batch_rows: records.len(),
        policy: Policy::DeadLetter,
        origin: topic.name().to_string(),
        filter: None,
    };
    let mut decoder = JsonDecoder::new(JsonOptions { fail_on_missing_field: false }, request);
    let mut text = Vec::new();
    for record in records {
        let start = text.len();
        text.extend_from_slice(&record.bytes);
        // Between the parts of an object a line end is a space; inside of a text it may not stand.
        text.iter_mut().skip(start).filter(|byte| **byte == b'\n').for_each(|byte| *byte = b' ');
        if text.get(start..).unwrap_or_default().trim_ascii().is_empty() {
            return Err(unfit(topic, record, "it is empty"));
        }
        text.push(b'\n');
    }
    let found = decoder.scan(&text, true, usize::MAX).records;
    let decoded = decoder.decode(&mut text)?;
    if let Some(bad) = decoded.bad.first()
        && let Some(record) = records.get(bad.record)
    {
        return Err(unfit(topic, record, &bad.reason));
    }
    if found != records.len() || decoded.rows.num_rows() != records.len() {
        return Err(Error::internal("another number of records was decoded"));
    }
    Ok(decoded.rows)
}

fn unfit(topic: &Topic, record: &Record, why: &str) -> Error {
    Error::new(Code::SinkSchema, format!("entry {} does not fit topic `{}`: {why}", record.id, topic.name()))
        .hint("leave it out with --ids, or write the entries to a file with --into-file")
}

/// `3,7-9`
fn parse_ids(text: &str) -> Result<BTreeSet<u64>> {
    const IDS_MAX: u64 = 100_000_000;
    let bad = || Error::new(Code::Usage, format!("`{text}` is no list of ids")).hint("write `3,7-9`");
    let mut ids = BTreeSet::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: u64 = first.trim().parse().map_err(|_| bad())?;
        let last: u64 = last.trim().parse().map_err(|_| bad())?;
        if first > last || last - first >= IDS_MAX {
            return Err(bad());
        }
        ids.extend(first..=last);
    }
    Ok(ids)
}

/// The shortest text that [`parse_ids`] reads back.
fn ranges(ids: &BTreeSet<u64>) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for id in ids {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *id => *last = *id,
            _ => ranges.push((*id, *id)),
        }
    }
    let text = |(first, last): &(u64, u64)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    ranges.iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip() {
        for text in ["", "3", "3,7-9", "0-2,4"] {
            assert_eq!(ranges(&parse_ids(text).expect("ids")), text);
        }
        assert_eq!(ranges(&parse_ids(" 2, 1-1 ,3").expect("ids")), "1-3");
        for bad in ["x", "3-", "-3", "9-7", "1-2-3", "0-99999999999"] {
            assert!(parse_ids(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn entries_in_any_note_are_taken_and_open_notes_found() {
        let target = Target::File { path: PathBuf::from("/x"), draft: None, header: None, bytes: 0, crc32c: 0 };
        let note = |batch, is_done, channel, ids: &str| Note {
            batch,
            is_done,
            channel,
            side_table: 5,
            ids: ids.to_owned(),
            target: target.clone(),
        };
        let notes = [
            note(1, false, SinkChannel::Late, "1-2"),
            note(1, true, SinkChannel::Late, "1-2"),
            note(2, false, SinkChannel::DeadLetters, "5"),
            note(3, false, SinkChannel::Late, "4"),
        ];
        assert_eq!(taken(&notes, SinkChannel::Late, 5).expect("ids"), BTreeSet::from([1, 2, 4]));
        assert_eq!(taken(&notes, SinkChannel::Late, 6).expect("ids"), BTreeSet::new(), "another topic");
        assert_eq!(open_notes(&notes).map(|note| note.batch).collect::<Vec<_>>(), [2, 3]);
    }
}
