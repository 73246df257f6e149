//! Files of the embedded log: segments, staged rows, and the documents beside them.
//!
//! A small topic is made once; an input takes the place of one of its files, and the topic is opened as a reader and as
//! its owner. What stands in the file is tried as it is, and again with its checksums made right: a decoder must bear
//! what a mistaken writer gives a good checksum to.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use qanat_proto::error::Result;
use qanat_proto::ids::{Epoch, Generation, JobId, OperatorId, SubtaskId, Token};
use qanat_proto::names::{Name, Origin};
use qanat_proto::owner::{NewTopic, TopicChange};
use qanat_proto::{Code, Error};
use qanat_storage::env::Env;
use qanat_storage::log::{
    AppendOptions, EventTime, GroupCommit, Isolation, LogOptions, OwnerToken, StagedHandle, Start, TopicSpec, Topics,
};

use crate::messages::{named, with_name};
use crate::mutate::Form;
use crate::verdict::{refused, sound};
use crate::{Seed, Target, Verdict};

const FOLDER: &str = "/topics";
const TOPIC: &str = "t";
/// A topic without rows, made and deleted by a decision.
const DECIDED: &str = "u";
const OPTIONS: LogOptions = LogOptions { segment_bytes: 6 << 10, allocate_bytes: 1 << 10, roll_after_ms: None };
/// A reader asks for a mebibyte at a time, and may for each of four segments.
const MEMORY: (usize, usize) = (24 << 20, 1 << 10);
/// Codes of a log that is not what was written.
const DAMAGED: &[Code] = &[Code::CorruptLog, Code::UnknownVersion];

/// A log at rest: every file of it, and the rows.
struct Log {
    files: Vec<(PathBuf, Vec<u8>)>,
    folders: Vec<PathBuf>,
    staged: StagedHandle,
    rows: u64,
}

fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| made().expect("a small log is made"))
}

/// Four segments of which three are sealed, one by a takeover; a committed run of two frames; rows with and without event
/// time; a handle that waits for its claim.
fn made() -> Result<Log> {
    let sim = Env::sim(5);
    let topics = open(&sim.env)?;
    let name = Name::new(TOPIC)?;
    let topic = topics.create(&name, TopicSpec::new(1))?;
    let rows = crate::formats::rows();
    let event_time = Some(EventTime { min: 5, max: 9 });
    topic.append(0, &rows.slice(0, 4), &AppendOptions { event_time, ..AppendOptions::default() })?;
    let mut staging = topic.stage(origin(1), 0);
    staging.write(0, &rows.slice(4, 2), None)?;
    staging.write(0, &rows.slice(6, 2), event_time)?;
    topic.commit(&[staging.prepare()?])?;
    topic.partition(0)?.take_over(OwnerToken(2))?;
    topic.append(0, &rows.slice(8, 3), &AppendOptions { begins_segment: true, ..AppendOptions::default() })?;
    topic.append(0, &rows.slice(11, 1), &AppendOptions { begins_segment: true, ..AppendOptions::default() })?;
    topic.append(0, &rows.slice(0, 1), &AppendOptions::default())?;
    let mut staging = topic.stage(origin(2), 0);
    staging.write(0, &rows.slice(2, 3), event_time)?;
    let staged = staging.prepare()?;
    let made = NewTopic { id: 77, partitions: 2, bytes: Some(9), age_ms: None, consumed: false };
    topics.change(&Name::new(DECIDED)?, 3, &TopicChange::Create(made))?;
    let rows = topic.partition(0)?.end_offset();
    let folder = Path::new(FOLDER);
    let (files, folders) = (crate::documents::files(&sim.env, folder), crate::documents::folders(&sim.env, folder));
    Ok(Log { files, folders, staged, rows })
}

fn open(env: &Env) -> Result<Topics> {
    Topics::open_with(env.clone(), FOLDER, GroupCommit::inline(), OPTIONS)
}

fn origin(epoch: u64) -> Origin {
    Origin {
        token: Token { job: JobId(7), generation: Generation(1) },
        epoch: Epoch(epoch),
        subtask: SubtaskId { operator: OperatorId(3), index: 0 },
    }
}

/// The log with another file in the place of the one whose path ends so.
fn with(ending: &str, bytes: &[u8]) -> Env {
    let sim = Env::sim(5);
    crate::documents::put_folders(&sim.env, &log().folders);
    for (path, whole) in &log().files {
        let is_it = path.to_string_lossy().ends_with(ending);
        crate::documents::put(&sim.env, path, if is_it { bytes } else { whole });
    }
    sim.env
}

/// All rows of the topic, staged ones behind the others, as texts.
fn read(topics: &Topics) -> Result<Vec<String>> {
    let topic = topics.topic(&Name::new(TOPIC)?)?;
    let mut batches = topic.read_to_latest(0, Start::Earliest, Isolation::Uncommitted)?;
    let (mut texts, mut next) = (Vec::new(), None);
    while let Some(batch) = batches.next()? {
        sound(&batch.rows);
        if batch.staged.is_none() {
            assert!(next.is_none_or(|next| next == batch.first_offset), "offsets have no gap");
            next = batch.first_offset.checked_add(batch.rows.num_rows() as u64);
        }
        texts.extend(crate::formats::texts(&batch.rows));
    }
    Ok(texts)
}

/// What readers and owners make of a log: all rows, and how many of them are committed.
fn looked_at(env: &Env) -> Result<(Vec<String>, u64)> {
    let seen = read(&Topics::open_read_only(env.clone(), FOLDER));
    let owned = owned(env);
    match (seen, owned) {
        (Ok(seen), Ok((texts, end))) => {
            // A reader stops where nothing says that it was synced; an owner asks the disk.
            assert!(seen.len() <= texts.len() + log().staged.partitions.len() * 64);
            Ok((texts, end))
        }
        (Err(error), Ok(_)) | (_, Err(error)) => Err(error),
    }
}

fn owned(env: &Env) -> Result<(Vec<String>, u64)> {
    let topics = open(env)?;
    let before = read(&topics)?;
    let end = topics.topic(&Name::new(TOPIC)?)?.partition(0)?.end_offset();
    drop(topics);
    // What was recovered once stays as it is.
    let topics = open(env)?;
    assert_eq!(read(&topics)?, before, "a second start finds another log");
    let _ = topics.describe(&Name::new(TOPIC)?)?;
    Ok((before, end))
}

fn verdict(looked: &Result<(Vec<String>, u64)>) -> Verdict {
    match looked {
        Ok(_) => Verdict::Accepted,
        Err(error) => refused(error, DAMAGED),
    }
}

/// A segment, one that is sealed (`0` to `2`) or the one that grows (`3`), by its number in front of its bytes.
pub const SEGMENT: Target = Target {
    name: "log_segment",
    body: segment,
    form: Form::Bytes,
    meaning: Some(segment_meaning),
    seeds: segment_seeds,
    rounds: 200,
    memory: MEMORY,
};

fn segment(input: &[u8]) -> Verdict {
    let Some((number, bytes)) = numbered(input) else { return Verdict::Refused };
    let as_it_is = verdict(&looked_at(&with(&number, bytes)));
    let sealed = resealed::segment(bytes);
    if sealed == bytes { as_it_is } else { verdict(&looked_at(&with(&number, &sealed))) }
}

fn numbered(input: &[u8]) -> Option<(String, &[u8])> {
    let (number, bytes) = named(input)?;
    ["0", "1", "2", "3"].contains(&number).then(|| (format!("{:016}.log", number.parse().unwrap_or(0)), bytes))
}

/// All rows, if none is missing.
fn segment_meaning(input: &[u8]) -> Option<String> {
    let (number, bytes) = numbered(input)?;
    let (texts, end) = looked_at(&with(&number, bytes)).ok()?;
    (end == log().rows).then(|| texts.join("\n"))
}

fn segment_seeds() -> Vec<Seed> {
    let mut seeds: Vec<Seed> = Vec::new();
    for (path, bytes) in &log().files {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(number) = name.strip_suffix(".log").and_then(|number| number.parse::<u64>().ok()) {
            seeds.push((format!("ok-{number}"), with_name(&number.to_string(), bytes)));
        }
    }
    let (_, first) = seeds[0].clone();
    seeds.push(("bad-in-another-place".to_owned(), [b"1", &first[1..]].concat()));
    seeds
}

/// Rows that wait for their epoch's claim.
pub const STAGED: Target = Target {
    name: "log_staged",
    body: staged,
    form: Form::Bytes,
    meaning: Some(staged_meaning),
    seeds: staged_seeds,
    rounds: 200,
    memory: MEMORY,
};

fn staged(input: &[u8]) -> Verdict {
    let as_it_is = verdict(&committed(input));
    let sealed = resealed::segment(input);
    if sealed == input { as_it_is } else { verdict(&committed(&sealed)) }
}

/// The rows once the staged ones are committed.
fn committed(bytes: &[u8]) -> Result<(Vec<String>, u64)> {
    let env = with(&log().staged.name, bytes);
    let _ = read(&Topics::open_read_only(env.clone(), FOLDER));
    let topics = open(&env)?;
    let topic = topics.topic(&Name::new(TOPIC)?)?;
    for _ in 0..2 {
        topic.commit(std::slice::from_ref(&log().staged))?;
    }
    let end = topic.partition(0)?.end_offset();
    assert_eq!(end, log().rows + log().staged.partitions[0].rows, "committed once and in full");
    let texts = read(&topics)?;
    drop((topic, topics));
    assert_eq!(read(&open(&env)?)?, texts, "a second start finds another log");
    Ok((texts, end))
}

fn staged_meaning(input: &[u8]) -> Option<String> {
    committed(input).ok().map(|(texts, _)| texts.join("\n"))
}

fn staged_seeds() -> Vec<Seed> {
    let is_it = |path: &Path| path.to_string_lossy().ends_with(&log().staged.name);
    let found = log().files.iter().find(|(path, _)| is_it(path));
    let (_, bytes) = found.expect("a handle waits");
    vec![("ok-rows".to_owned(), bytes.clone()), ("bad-empty".to_owned(), Vec::new())]
}

/// The documents of a topic: its description, its schema, where it ended at the least, who sealed a segment, the last
/// decision about its name.
pub const DOCUMENTS: Target = Target {
    name: "log_documents",
    body: document,
    form: Form::Text,
    meaning: Some(document_meaning),
    seeds: document_seeds,
    rounds: 400,
    memory: MEMORY,
};

const DOCUMENT_FILES: &[(&str, &str)] =
    &[("topic", "/t/topic"), ("schema", "/schema"), ("ends", "/ends"), ("seal", ".seal"), ("change", "/.changes/u")];

fn document(input: &[u8]) -> Verdict {
    let Some((ending, bytes)) = document_file(input) else { return Verdict::Refused };
    let as_it_is = verdict(&with_document(ending, bytes));
    let sealed = resealed::document(bytes);
    if sealed == bytes { as_it_is } else { verdict(&with_document(ending, &sealed)) }
}

fn document_file(input: &[u8]) -> Option<(&'static str, &[u8])> {
    let (name, bytes) = named(input)?;
    DOCUMENT_FILES.iter().find(|(known, _)| *known == name).map(|(_, ending)| (*ending, bytes))
}

fn with_document(ending: &str, bytes: &[u8]) -> Result<(Vec<String>, u64)> {
    let env = with(ending, bytes);
    let looked = looked_at(&env).map_err(|error| {
        // A description of another topic with this name, or of none of its partitions, leads to no rows.
        let is_known = [Code::UnknownTopic, Code::Usage, Code::OffsetGone, Code::PathNotFound].contains(&error.code());
        if is_known { Error::new(Code::CorruptLog, error.message()) } else { error }
    });
    let topics = open(&env)?;
    topics.change(&Name::new(DECIDED)?, u64::MAX, &TopicChange::Delete { id: 77 })?;
    topics.topic(&Name::new(TOPIC)?).and_then(|topic| topic.own(0, OwnerToken(9)).map(drop)).or_else(|error| {
        let is_known = [Code::UnknownTopic, Code::Usage, Code::Fenced, Code::PathNotFound].contains(&error.code());
        if is_known { Ok(()) } else { Err(error) }
    })?;
    looked
}

fn document_meaning(input: &[u8]) -> Option<String> {
    let (ending, bytes) = document_file(input)?;
    with_document(ending, bytes).ok().map(|(texts, _)| texts.join("\n"))
}

fn document_seeds() -> Vec<Seed> {
    let mut seeds: Vec<Seed> = Vec::new();
    for (name, ending) in DOCUMENT_FILES {
        let found = log().files.iter().find(|(path, _)| path.to_string_lossy().ends_with(ending));
        match found {
            Some((_, bytes)) => seeds.push((format!("ok-{name}"), with_name(name, bytes))),
            None => panic!("a topic has no `{name}`: {:?}", log().files.iter().map(|f| &f.0).collect::<Vec<_>>()),
        }
    }
    seeds.push(("bad-empty".to_owned(), with_name("topic", b"")));
    seeds
}

/// Checksums made right, by the offsets of `docs/log-format.md`.
mod resealed {
    use crc32c::{crc32c, crc32c_append};

    fn u32_at(bytes: &[u8], at: usize) -> usize {
        bytes.get(at..at + 4).and_then(|field| field.try_into().ok()).map_or(0, u32::from_le_bytes) as usize
    }

    fn put(bytes: &mut [u8], at: usize, value: u32) {
        if let Some(field) = bytes.get_mut(at..at + 4) {
            field.copy_from_slice(&value.to_le_bytes());
        }
    }

    /// A document: version, length and bytes under one checksum.
    pub(super) fn document(bytes: &[u8]) -> Vec<u8> {
        let mut sealed = bytes.to_vec();
        let Some(body) = bytes.get(20..) else { return sealed };
        put(&mut sealed, 12, body.len() as u32);
        let head = crc32c(&sealed[8..16]);
        put(&mut sealed, 16, crc32c_append(head, body));
        sealed
    }

    /// A segment or staging file: its header, then frames for as long as they follow each other.
    pub(super) fn segment(bytes: &[u8]) -> Vec<u8> {
        let mut sealed = bytes.to_vec();
        let length = u32_at(bytes, 12);
        let Some(header) = sealed.get(20..length) else { return sealed };
        let crc = crc32c(header);
        put(&mut sealed, 16, crc);
        let mut at = length;
        while sealed.get(at..at + 4) == Some(b"QFRM") {
            let Some(next) = frame(&mut sealed[at..]) else { break };
            at += next;
        }
        sealed
    }

    /// Bytes of the frame.
    fn frame(bytes: &mut [u8]) -> Option<usize> {
        let (length, header) = (u32_at(bytes, 8), u32_at(bytes, 12) & 0xffff);
        // A mark has no payload, and says something else there.
        if header < length {
            let payload = crc32c(bytes.get(header..length)?);
            put(bytes, 56, payload);
            // The sum over the run: only of one frame it is known from here.
            if u32_at(bytes, 76) == 1 {
                put(bytes, 60, crc32c(&payload.to_le_bytes()));
            }
        }
        let crc = crc32c(bytes.get(8..header)?);
        put(bytes, 4, crc);
        Some(length.max(160))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_whole_is_sealed_already() {
        for (path, bytes) in &log().files {
            let name = path.to_string_lossy();
            if name.ends_with(".log") || name.ends_with(&log().staged.name) {
                assert!(resealed::segment(bytes) == *bytes, "{name}");
            } else if bytes.starts_with(b"QANATDOC") {
                assert!(resealed::document(bytes) == *bytes, "{name}");
            }
        }
    }
}
