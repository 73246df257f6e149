//! `readmit`: late rows and dead letters written where a job can read them, each exactly once. By the process that has
//! the data folder, or by the owner of a cluster's log.
//!
//! ```text
//! 1. stage the rows (a topic) or write a hidden file beside the one that is wanted
//! 2. note `begun` in the topic <job>.readmitted: which entries go where
//! 3. publish: commit the staged rows, or give the hidden file its free name
//! 4. note `done`
//! ```
//! Publishing can be repeated: a topic remembers its handles (P12), and a hidden file that is gone was
//! published, even if somebody moved it away since. Whatever dies in between is completed by the next
//! call. An entry that stands in any note is never chosen again by itself. If its topic was deleted in between, it goes
//! nowhere, and is chosen again if it is named. An owner that was replaced notes nothing more (P11),
//! and what it publishes late is what its note says.
//!
//! In a cluster the notes have one owner and the topic that entries go to may have another one: the first asks for step
//! 3 ([`Step::Publish`]), and is told when it is done.

mod ids;
mod notes;
mod publish;
mod rows;

use std::cell::Cell;
use std::collections::BTreeSet;

use qanat_connectors::side::{SideReader, dead_letter_entries, late_entries, topic_name};
use qanat_proto::ids::Epoch;
use qanat_proto::manifest::SinkChannel;
use qanat_proto::names::Name;
use qanat_proto::owner::{Readmission, ReadmitInto, Readmitted};
use qanat_proto::{Code, Error, Result};
use qanat_storage::env::Env;
use qanat_storage::env::failpoint::failpoint;
use qanat_storage::log::{OwnerToken, StagedHandle, Topics};

use ids::{parse_ids, ranges};
use notes::{Memory, Note, Target, open_notes, taken, void};
use publish::{publish, stage, stage_file, staged_as};

/// Who readmits.
pub(crate) struct Readmitter<'a> {
    pub(crate) env: &'a Env,
    pub(crate) topics: &'a Topics,
    /// The token of the notes' owner; None for the one process of a data folder.
    pub(crate) owner: Option<OwnerToken>,
}

/// How far a readmission is.
pub(crate) enum Step {
    Done(Readmitted),
    /// The owner of the topic must commit this; then the readmission goes on, with the batch among the published ones.
    Publish {
        batch: u64,
        handle: StagedHandle,
        /// Batches of earlier requests that were completed.
        completed: u64,
    },
}

/// One entry on its way.
struct Record {
    id: u64,
    bytes: Vec<u8>,
}

impl Readmitter<'_> {
    /// Completes what was interrupted, and readmits what is asked for. One call at a time.
    ///
    /// # Errors
    /// E0309 for a job or run that is not there, E0501 for ids that are not, E0114 for a record that does not fit the
    /// topic, E0216 for a file that is there already.
    pub(crate) fn readmit(&self, asked: &Readmission) -> Result<Readmitted> {
        match self.step(asked, &[])? {
            Step::Done(readmitted) => Ok(readmitted),
            Step::Publish { .. } => Err(Error::internal("entries of one process wait for another one")),
        }
    }

    /// [`Readmitter::readmit`], up to where another process is needed. The owners of their topics have published the
    /// batches `published`.
    ///
    /// # Errors
    /// Likewise; E0306 if there is a newer owner.
    pub(crate) fn step(&self, asked: &Readmission, published: &[u64]) -> Result<Step> {
        let wanted = asked.ids.as_deref().map(parse_ids).transpose()?;
        let (topics, channel) = (self.topics, asked.channel);
        match &asked.unknown_job {
            Some(error) if topics.find(&topic_name(&asked.job, channel)?)?.is_none() => return Err(error.clone()),
            Some(_) | None => {}
        }
        let memory = Memory::open(topics, &asked.job, self.owner)?;
        let mut notes = memory.notes()?;
        let completed = match self.complete(asked, published, &memory, &mut notes)? {
            Completed::All(completed) => completed,
            Completed::Until(publish) => return Ok(publish),
        };
        let void = void(&notes);
        if let Some(note) = notes.iter().find(|note| is_of(note, asked) && !void.contains(&note.batch)) {
            // It is published by now, or its answer was lost.
            let readmitted = parse_ids(&note.ids)?.len() as u64;
            let (into, ids) = (Some(into(&note.target)), note.ids.clone());
            return Ok(Step::Done(Readmitted { readmitted, into, ids, completed }));
        }
        self.refresh(&asked.job, channel)?;
        let side_table = side_table(topics, &asked.job, channel)?;
        let taken = taken(&notes, channel, side_table, wanted.is_some())?;
        let choose = |id: u64| !taken.contains(&id) && wanted.as_ref().is_none_or(|wanted| wanted.contains(&id));
        let run = asked.run.as_deref().unwrap_or_default();
        let limit = asked.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        check_ids(topics, &asked.job, channel, wanted.as_ref())?;
        let saw_run = Cell::new(false);
        let of_run = |job: &str| {
            let found = job.starts_with(run);
            saw_run.set(saw_run.get() || found);
            found
        };
        let is_withdrawn = |job: &str, epoch: i64| {
            let epoch = Epoch(u64::try_from(epoch).unwrap_or(0));
            asked.withdrawn.get(job).is_some_and(|epochs| epochs.contains(epoch))
        };
        let records = records(topics, &asked.job, channel, limit, |id, job, epoch| {
            of_run(job) && choose(id) && !is_withdrawn(job, epoch)
        })?;
        if let Some(error) = asked.unknown_run.as_ref().filter(|_| !saw_run.get()) {
            return Err(error.clone());
        }
        let ids = ranges(&records.iter().map(|record| record.id).collect());
        let mut outcome = Readmitted { readmitted: records.len() as u64, into: None, ids: ids.clone(), completed };
        if records.is_empty() {
            return Ok(Step::Done(outcome));
        }
        let batch = notes.iter().map(|note| note.batch).max().unwrap_or(0) + 1;
        let (target, into_topic) = match &asked.into {
            ReadmitInto::Topic(topic) => stage(self.env, topics, staged_as(self.env, &notes), topic, batch, &records)?,
            ReadmitInto::File { path, header } => {
                (stage_file(self.env, path.as_ref(), header.as_deref(), &records)?, 0)
            }
        };
        outcome.into = Some(into(&target));
        failpoint("readmit.staged");
        let request = asked.request.clone();
        let note =
            Note { batch, is_done: false, channel, side_table, ids, target, into_topic, is_void: false, request };
        memory.append(&note)?;
        failpoint("readmit.noted");
        if let Some(handle) = self.for_another(&note) {
            return Ok(Step::Publish { batch, handle, completed });
        }
        publish(self.env, topics, &note, &records)?;
        done(&memory, &note)?;
        Ok(Step::Done(outcome))
    }

    /// What the owner of a topic is to commit.
    fn for_another(&self, note: &Note) -> Option<StagedHandle> {
        match &note.target {
            Target::Topic(handle) => self.owner.map(|_| handle.clone()),
            Target::File { .. } => None,
        }
    }

    /// Publishes what earlier calls noted and did not finish, in their order: a topic knows the newest batch alone (P12).
    fn complete(
        &self,
        asked: &Readmission,
        published: &[u64],
        memory: &Memory,
        notes: &mut Vec<Note>,
    ) -> Result<Completed> {
        let (job, mut completed) = (asked.job.as_str(), 0);
        for note in &open_notes(notes) {
            let is_own = is_of(note, asked);
            if !published.contains(&note.batch) && self.has_nowhere_to_go(note)? {
                let topic = into(&note.target);
                tracing::warn!(
                    job,
                    topic,
                    ids = note.ids,
                    "entries went nowhere: their topic was deleted before; `--ids` sends them elsewhere"
                );
                let note = Note { is_done: true, is_void: true, ..note.clone() };
                memory.append(&note)?;
                notes.push(note);
                continue;
            }
            if let Some(handle) = self.for_another(note) {
                if !published.contains(&note.batch) {
                    return Ok(Completed::Until(Step::Publish { batch: note.batch, handle, completed }));
                }
                done(memory, note)?;
                completed += u64::from(!is_own);
                continue;
            }
            let ids = parse_ids(&note.ids)?;
            self.refresh(job, note.channel)?;
            let is_there = note.side_table == side_table(self.topics, job, note.channel)?;
            let records =
                records(self.topics, job, note.channel, usize::MAX, |id, _, _| is_there && ids.contains(&id))?;
            publish(self.env, self.topics, note, &records)?;
            done(memory, note)?;
            completed += u64::from(!is_own);
        }
        Ok(Completed::All(completed))
    }

    /// Whether the topic that a batch was staged in was deleted; there may be another one of its name.
    fn has_nowhere_to_go(&self, note: &Note) -> Result<bool> {
        let Target::Topic(handle) = &note.target else { return Ok(false) };
        let found = self.topics.find(&Name::new(&handle.topic)?)?;
        Ok(found.is_none_or(|topic| note.into_topic != 0 && topic.id() != note.into_topic))
    }

    /// Looks what another process appended to the side table before this one owned the log.
    fn refresh(&self, job: &str, channel: SinkChannel) -> Result<()> {
        match self.topics.find(&topic_name(job, channel)?)? {
            Some(topic) => topic.partition(0)?.refresh().map(drop),
            None => Ok(()),
        }
    }
}

/// What became of batches that were noted and not done.
enum Completed {
    /// So many were of earlier requests.
    All(u64),
    Until(Step),
}

fn done(memory: &Memory, note: &Note) -> Result<()> {
    failpoint("readmit.published");
    memory.append(&Note { is_done: true, ..note.clone() })?;
    failpoint("readmit.done");
    Ok(())
}

/// Whether a note is of this very request.
fn is_of(note: &Note, asked: &Readmission) -> bool {
    !asked.request.is_empty() && note.request == asked.request
}

fn into(target: &Target) -> String {
    match target {
        Target::File { path, .. } => path.display().to_string(),
        Target::Topic(handle) => handle.topic.clone(),
    }
}

/// Which topic of its name a side table is; 0 for none.
fn side_table(topics: &Topics, job_name: &str, channel: SinkChannel) -> Result<u64> {
    Ok(topics.find(&topic_name(job_name, channel)?)?.map_or(0, |topic| topic.id()))
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
