//! Entries on their way to a file or a topic: staged, noted, and only then published.

use std::path::Path;

use qanat_proto::ids::{Epoch, Generation, JobId, OperatorId, SubtaskId, Token};
use qanat_proto::names::{Name, Origin};
use qanat_proto::{Code, Error, Place, Result};
use qanat_storage::crash_safe;
use qanat_storage::env::Env;
use qanat_storage::log::Topics;

use super::Record;
use super::notes::{Note, Target};
use super::rows::rows;
use qanat_storage::small_file;

/// Does what a note says; a repeat changes nothing. Of a topic this process must be the only one that appends.
pub(super) fn publish(env: &Env, topics: &Topics, note: &Note, records: &[Record]) -> Result<()> {
    match &note.target {
        Target::Topic(handle) => {
            let topic = topics.topic(&Name::new(&handle.topic)?)?;
            topic.commit(std::slice::from_ref(handle)).map(drop)
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
                e => e.into(),
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
pub(super) fn stage_file(env: &Env, path: &Path, header: Option<&str>, records: &[Record]) -> Result<Target> {
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
pub(super) fn staged_as(env: &Env, notes: &[Note]) -> JobId {
    let known = notes.iter().rev().find_map(|note| match &note.target {
        Target::Topic(handle) => Origin::parse_object(&handle.name).map(|(origin, _)| origin.token.job),
        Target::File { .. } => None,
    });
    known.unwrap_or_else(|| JobId(env.entropy.u128()))
}

/// Stages the records in a topic: invisible until they are committed. With the topic's id.
pub(super) fn stage(
    env: &Env,
    topics: &Topics,
    job: JobId,
    topic: &str,
    batch: u64,
    records: &[Record],
) -> Result<(Target, u64)> {
    let topic = topics.topic(&Name::new(topic)?)?;
    let rows = rows(&topic, records)?;
    let subtask = SubtaskId { operator: OperatorId(0), index: 0 };
    let origin = Origin { token: Token { job, generation: Generation(0) }, epoch: Epoch(batch), subtask };
    // Random: what a call staged that died before its note is nobody's.
    let mut staging = topic.stage(origin, env.entropy.u64());
    for (partition, batch) in (0..topic.partitions()).cycle().zip(rows) {
        staging.write(partition, &batch, None)?;
    }
    Ok((Target::Topic(staging.prepare()?), topic.id()))
}
