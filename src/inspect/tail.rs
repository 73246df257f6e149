//! Follows a topic.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use qanat_client::{TailFrom, TailRows};
use qanat_proto::names::Name;
use qanat_proto::rpc::control::TailRequest;
use qanat_proto::{Code, Error, Place, Result};
use qanat_storage::env::watch::Watch;
use qanat_storage::log::{Isolation, LogBatch, LogReader, Start, Topic};

use crate::data_folder::DataView;

/// File systems that tell nobody of changes (some networks) are looked at this often, and so are readers that are gone.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Takes what is read.
pub(crate) trait TailReader {
    /// Where reading begins, by partition. False: nobody wants more.
    fn started(&mut self, offsets: &BTreeMap<u32, u64>) -> bool;

    /// False: nobody wants more.
    ///
    /// # Errors
    /// If they cannot be shown.
    fn rows(&mut self, rows: TailRows) -> Result<bool>;

    /// Whether somebody waits for more.
    fn is_there(&self) -> bool;
}

/// Reads a topic as the request says, until it is fulfilled or nobody wants more.
///
/// # Errors
/// E0308 if there is none; E0501 for a request that makes no sense; what is wrong with the topic.
pub(crate) fn topic(view: &DataView, name: &str, request: &TailRequest, reader: &mut dyn TailReader) -> Result<()> {
    let isolation = if request.uncommitted { Isolation::Uncommitted } else { Isolation::Committed };
    if request.uncommitted && !request.to_latest {
        let error = Error::new(Code::Usage, "staged rows cannot be followed: they may vanish again");
        return Err(error.hint("add --to-latest"));
    }
    let start = match request.from.as_str() {
        "" if request.to_latest => Start::Earliest,
        "" => Start::Latest,
        text => Start::from_str(text)?,
    };
    let topic = view.topics()?.topic(&Name::new(name)?)?;
    let partitions: Vec<u32> = match request.partition {
        Some(partition) if partition < topic.partitions() => vec![partition],
        Some(partition) => {
            let message = format!("topic `{}` has no partition {partition}", topic.name());
            return Err(Error::new(Code::Usage, message)
                .hint(format!("its partitions are 0 to {}", topic.partitions().saturating_sub(1))));
        }
        None => (0..topic.partitions()).collect(),
    };
    if let (Start::Offset(offset), true) = (start, request.resume.is_empty()) {
        check_reached(&topic, &partitions, offset)?;
    }
    // Before the first look: nothing that arrives after it is missed.
    let watch = if request.to_latest { None } else { Some(watch(&topic, &partitions)?) };
    let mut offsets = BTreeMap::new();
    for partition in partitions {
        let offset = match request.resume.get(&partition) {
            Some(offset) => *offset,
            None => topic.resolve(partition, start)?,
        };
        // Of several partitions, each ends at another offset.
        let is_behind = request.to_latest && request.partition.is_none() && matches!(start, Start::Offset(_));
        if !(is_behind && offset > topic.partition(partition)?.end_offset()) {
            offsets.insert(partition, offset);
        }
    }
    let mut output = Limited { reader, left: (request.limit > 0).then_some(request.limit) };
    if !output.reader.started(&offsets) {
        return Ok(());
    }
    match watch {
        Some(watch) => follow(&topic, &offsets, &watch, &mut output),
        None => read_to_latest(&topic, &offsets, isolation, &mut output),
    }
}

/// A first offset beyond the end of every partition is a mistake: nobody waits for rows only to leave out some of them.
fn check_reached(topic: &Topic, partitions: &[u32], offset: u64) -> Result<()> {
    let ends = partitions.iter().map(|partition| Ok((*partition, topic.partition(*partition)?.end_offset())));
    let ends = ends.collect::<Result<Vec<_>>>()?;
    let Some((last, end)) = ends.into_iter().max_by_key(|(_, end)| *end).filter(|(_, end)| offset > *end) else {
        return Ok(());
    };
    let message = format!("offset {offset} lies beyond the end of topic `{}`, whose next row gets {end}", topic.name());
    Err(Error::new(Code::Usage, message)
        .at(Place::Named(format!("partition {last}")))
        .hint("`--from latest` waits for the next row"))
}

fn watch(topic: &Topic, partitions: &[u32]) -> Result<Watch> {
    let folders: Vec<PathBuf> = partitions.iter().map(|partition| topic.folder_of(*partition)).collect();
    Watch::start(folders.iter().map(PathBuf::as_path)).map_err(|e| {
        Error::io(format!("watch topic `{}`", topic.name()), &e).at(Place::Named(topic.folder().display().to_string()))
    })
}

fn read_to_latest(
    topic: &Arc<Topic>,
    offsets: &BTreeMap<u32, u64>,
    isolation: Isolation,
    output: &mut Limited<'_>,
) -> Result<()> {
    for (partition, offset) in offsets {
        let mut batches = topic.read_to_latest(*partition, Start::Offset(*offset), isolation)?;
        while let Some(batch) = batches.next()? {
            if !output.take(*partition, batch)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Gives what there is, then waits to be told that there is more.
fn follow(topic: &Arc<Topic>, offsets: &BTreeMap<u32, u64>, watch: &Watch, output: &mut Limited<'_>) -> Result<()> {
    let mut readers: Vec<(u32, LogReader)> = offsets
        .iter()
        .map(|(partition, offset)| Ok((*partition, topic.read_from(*partition, Start::Offset(*offset))?)))
        .collect::<Result<_>>()?;
    while output.reader.is_there() {
        for (partition, reader) in &mut readers {
            while let Some(batch) = reader.poll()? {
                if !output.take(*partition, batch)? {
                    return Ok(());
                }
            }
        }
        watch.wait(LOOK_AGAIN);
        for (partition, _) in &readers {
            topic.partition(*partition)?.refresh()?;
        }
    }
    Ok(())
}

/// No more rows than were asked for.
struct Limited<'a> {
    reader: &'a mut dyn TailReader,
    left: Option<u64>,
}

impl Limited<'_> {
    fn take(&mut self, partition: u32, batch: LogBatch) -> Result<bool> {
        let wanted = self.left.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        let rows = batch.rows.slice(0, batch.rows.num_rows().min(wanted));
        let count = rows.num_rows() as u64;
        let from = match batch.staged {
            Some(handle) => TailFrom::Staged { partition, handle },
            None => TailFrom::Partition { partition, first_offset: batch.first_offset },
        };
        if !self.reader.rows(TailRows { from, at_ms: batch.append_ms, rows, skipped: 0 })? {
            return Ok(false);
        }
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(count);
        }
        Ok(self.left != Some(0))
    }
}
