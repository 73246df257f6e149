//! Several runs become one. Of each key the newest entry stays; that a key is gone stays as long as an older run may have
//! it.

use std::ops::Range;
use std::sync::Arc;

use qanat_proto::error::Result;

use super::run::{CHUNK_BYTES, Run, RunWriter, hash_of, next_entry};

/// A run that is read from its beginning to its end.
struct Reader {
    run: Arc<Run>,
    next: usize,
    buffer: Vec<u8>,
    /// Of blocks in the buffer: their entries that are still to come, the last block first.
    rest: Vec<Range<usize>>,
    head: Option<Head>,
}

/// The entry that comes next.
struct Head {
    hash: u64,
    key: Range<usize>,
    value: Option<Range<usize>>,
}

impl Reader {
    fn new(run: Arc<Run>) -> Result<Self> {
        let mut reader = Self { run, next: 0, buffer: Vec::new(), rest: Vec::new(), head: None };
        reader.advance()?;
        Ok(reader)
    }

    fn advance(&mut self) -> Result<()> {
        self.head = None;
        while self.rest.last().is_some_and(Range::is_empty) {
            self.rest.pop();
        }
        if self.rest.is_empty() {
            if self.next == self.run.blocks() {
                return Ok(());
            }
            self.next = self.run.read(self.next, CHUNK_BYTES, &mut self.buffer, &mut self.rest)?;
            self.rest.reverse();
        }
        let Some(range) = self.rest.last_mut() else { return Ok(()) };
        let mut entries = self.buffer.get(range.clone()).unwrap_or_default();
        let before = entries.len();
        let (key, value) = next_entry(&mut entries).ok_or_else(|| self.run.damaged())?;
        let end = range.start + (before - entries.len());
        let value = value.map(|value| end - value.len()..end);
        let key_end = value.as_ref().map_or(end, |value| value.start);
        self.head = Some(Head { hash: hash_of(key), key: key_end - key.len()..key_end, value });
        range.start = end;
        Ok(())
    }

    /// Hash and key of the entry that comes next.
    fn place(&self) -> Option<(u64, &[u8])> {
        let head = self.head.as_ref()?;
        Some((head.hash, self.buffer.get(head.key.clone())?))
    }
}

/// Merges runs, the newest first, into `writer`. `reaches_oldest`: there is no older run than the last of them.
pub(super) fn merge(runs: &[Arc<Run>], reaches_oldest: bool, mut writer: RunWriter) -> Result<Option<Run>> {
    let mut readers = runs.iter().map(|run| Reader::new(Arc::clone(run))).collect::<Result<Vec<_>>>()?;
    loop {
        // Of equal places the first one, which is the newest.
        let least = readers.iter().enumerate().filter_map(|(at, reader)| Some((reader.place()?, at))).min();
        let Some(((hash, key), newest)) = least else { break };
        let key = key.to_vec();
        if let Some(reader) = readers.get(newest)
            && let Some(head) = &reader.head
        {
            let value = head.value.clone().and_then(|value| reader.buffer.get(value));
            if value.is_some() || !reaches_oldest {
                writer.push(hash, &key, value)?;
            }
        }
        for reader in &mut readers {
            if reader.place() == Some((hash, &key)) {
                reader.advance()?;
            }
        }
    }
    writer.finish()
}
