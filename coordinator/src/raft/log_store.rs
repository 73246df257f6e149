//! openraft's log store over the journal: entries in memory, durable before anybody is told.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use qanat_proto::{Error, Result, limits};
use tokio::sync::oneshot;

use super::journal::{Recovered, Row};
use super::types::{LogId, RaftEntry, SnapshotBytes, SnapshotMeta, Types, Vote};
use super::writer::{Done, JournalWriter, Write};

/// The log of one member. Clones share it.
#[derive(Clone)]
pub(crate) struct LogStore(Arc<Mutex<Log>>);

struct Log {
    vote: Option<Vote>,
    purged: Option<LogId>,
    /// Those behind `purged`, without a gap.
    entries: BTreeMap<u64, RaftEntry>,
    writer: JournalWriter,
    /// The first write that failed.
    failure: Arc<Mutex<Option<Error>>>,
}

impl LogStore {
    /// A log that goes on where `found` ends.
    pub(super) fn new(found: &mut Recovered, writer: JournalWriter) -> Self {
        let purged = found.snapshot.as_ref().and_then(|(meta, _)| meta.last_log_id);
        let entries = std::mem::take(&mut found.entries);
        Self(Arc::new(Mutex::new(Log { vote: found.vote.take(), purged, entries, writer, failure: Arc::default() })))
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What made the disk unusable for this member, if something did.
    pub(super) fn failure(&self) -> Option<Error> {
        let failure = Arc::clone(&self.log().failure);
        let failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.clone()
    }

    /// Changes the log in memory and queues its rows, both under one lock: rows stand in the order of changes.
    async fn write(&self, change: impl FnOnce(&mut Log) -> Result<Vec<Row>>) -> io::Result<()> {
        let (sender, written) = oneshot::channel();
        self.queue(change, Box::new(move |result| drop(sender.send(result)))).map_err(io::Error::other)?;
        written.await.unwrap_or_else(|_| Err(io::Error::other("the journal has ended")))
    }

    fn queue(&self, change: impl FnOnce(&mut Log) -> Result<Vec<Row>>, done: Done) -> Result<()> {
        let mut log = self.log();
        let rows = change(&mut log)?.into_iter().map(Row::text).collect::<Result<Vec<_>>>()?;
        let done = noting(&log.failure, done);
        log.writer.send(Write::Rows { rows, done });
        Ok(())
    }

    /// Makes a snapshot durable together with the entries that it does not cover.
    pub(super) async fn save_snapshot(&self, meta: SnapshotMeta, machine: SnapshotBytes) -> io::Result<()> {
        let (sender, written) = oneshot::channel();
        {
            let log = self.log();
            let covered = meta.last_log_id.map_or(0, |id| id.index + 1);
            let behind = log.entries.range(covered..).map(|(_, entry)| Row::Entry(entry.clone()).text());
            let behind = behind.collect::<Result<Vec<_>>>().map_err(io::Error::other)?;
            let snapshot = Row::Snapshot { vote: log.vote, meta, machine };
            let done = noting(&log.failure, Box::new(move |result| drop(sender.send(result))));
            log.writer.send(Write::Snapshot { snapshot, behind, done });
        }
        written.await.unwrap_or_else(|_| Err(io::Error::other("the journal has ended")))
    }
}

/// Notes a failure before anybody hears of it.
fn noting(failure: &Arc<Mutex<Option<Error>>>, done: Done) -> Done {
    let failure = Arc::clone(failure);
    Box::new(move |result| {
        if let Err(error) = &result {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).cloned();
            let error = inner.unwrap_or_else(|| Error::io("write the command log", error));
            failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
        done(result);
    })
}

/// Counts the bytes that are written to it.
struct Written(usize);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<RaftEntry>> {
        Ok(self.log().entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }

    /// As many of the first ones as one message to another member shall hold, one at least.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<RaftEntry>> {
        let log = self.log();
        // None, or one: nothing to weigh.
        if end.saturating_sub(start) < 2 {
            return Ok((start < end).then(|| log.entries.get(&start).cloned()).flatten().into_iter().collect());
        }
        let mut bytes = Written(0);
        let mut taken = Vec::new();
        for (_, entry) in log.entries.range(start..end) {
            serde_json::to_writer(&mut bytes, entry).map_err(io::Error::other)?;
            if bytes.0 > limits::RAFT_BATCH_BYTES && !taken.is_empty() {
                break;
            }
            taken.push(entry.clone());
        }
        Ok(taken)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.log().vote)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let log = self.log();
        let last = log.entries.last_key_value().map(|(_, entry)| entry.log_id).or(log.purged);
        Ok(LogState { last_purged_log_id: log.purged, last_log_id: last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let vote = *vote;
        self.write(|log| {
            log.vote = Some(vote);
            Ok(vec![Row::Vote(vote)])
        })
        .await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let change = |log: &mut Log| {
            let mut rows = Vec::new();
            for entry in entries {
                rows.push(Row::Entry(entry.clone()));
                log.entries.insert(entry.log_id.index, entry);
            }
            Ok(rows)
        };
        self.queue(change, Box::new(|result| callback.io_completed(result))).map_err(io::Error::other)
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.write(|log| {
            log.entries.split_off(&last.map_or(0, |id| id.index + 1));
            Ok(vec![Row::Truncate(last)])
        })
        .await
    }

    /// In memory only: on the disk they are history, which a snapshot stands for.
    async fn purge(&mut self, id: LogId) -> io::Result<()> {
        let mut log = self.log();
        log.entries = log.entries.split_off(&(id.index + 1));
        log.purged = Some(id);
        Ok(())
    }
}
