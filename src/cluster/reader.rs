//! What clients of a cluster look at, read by a coordinator as the command line reads a folder.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use qanat_client::{SideQuery, TailRows};
use qanat_connectors::encode::json::rows_as_text;
use qanat_connectors::log::hold;
use qanat_coordinator::raft::Reach;
use qanat_coordinator::service::{DataReader, Parts, tail_events};
use qanat_coordinator_core::Claimed;
use qanat_coordinator_core::retention::TopicStart;
use qanat_proto::audit::Report;
use qanat_proto::checkpoint::CheckpointReport;
use qanat_proto::ids::{Epoch, OperatorId};
use qanat_proto::manifest::SinkChannel;
use qanat_proto::owner::{Readmission, ReadmitInto};
use qanat_proto::rpc::control::readmit_request::Into as Where;
use qanat_proto::rpc::control::tail_event::Event;
use qanat_proto::rpc::control::{
    Checkpoint, ReadmitRequest, RowFormat, SideRowsPart, SideRowsRequest, SideTable, TailEvent, TailRequest,
    TailStarted, Topic,
};
use qanat_proto::{Code, Error, Result};
use qanat_storage::checkpoint::CheckpointStore;

use crate::audit;
use crate::cluster::planner::starts_of;
use crate::cluster::roots::Roots;
use crate::data_folder::{DataView, FoundJob};
use crate::inspect::tail::TailReader;
use crate::inspect::{checkpoints, side, tail, topics};

/// Reads the storage of the cluster, and this coordinator's log.
pub(crate) struct ClusterReader {
    pub(crate) view: DataView,
    pub(crate) checkpoints: Arc<CheckpointStore>,
    pub(crate) roots: Roots,
}

impl ClusterReader {
    fn job(&self, name: &str, run: Option<&str>) -> Result<FoundJob> {
        self.view.job(name, run, Reach::History)
    }
}

impl DataReader for ClusterReader {
    fn topics(&self) -> Result<Vec<Topic>> {
        topics::list(&self.view)
    }

    fn topic(&self, name: &str) -> Result<Topic> {
        topics::describe(&self.view, name)
    }

    fn tail(&self, topic: &str, request: &TailRequest, parts: &Parts<TailEvent>) -> Result<()> {
        let mut sending = Sending { reader: self, format: request.format(), parts };
        tail::topic(&self.view, topic, request, &mut sending)
    }

    fn side_rows(&self, request: &SideRowsRequest, parts: &Parts<SideRowsPart>) -> Result<()> {
        let query = SideQuery {
            job: request.job.clone(),
            run: Some(request.run.clone()).filter(|run| !run.is_empty()),
            limit: (request.limit > 0).then_some(request.limit),
        };
        match request.table() {
            SideTable::Late => side::late(&self.view, &query, |rows| {
                in_parts(rows, |row| row.row.len(), |late| parts.send(SideRowsPart { late, ..SideRowsPart::default() }))
            }),
            SideTable::DeadLetters => side::dead_letters(&self.view, &query, |rows| {
                let bytes = |row: &qanat_client::DeadLetter| {
                    row.raw.as_ref().map_or(0, Vec::len) + row.text.as_ref().map_or(0, String::len) + row.reason.len()
                };
                in_parts(rows, bytes, |dead_letters| {
                    parts.send(SideRowsPart { dead_letters, ..SideRowsPart::default() })
                })
            }),
            SideTable::Unspecified => Err(unspecified()),
        }
    }

    fn readmission(&self, request: &ReadmitRequest) -> Result<Readmission> {
        let channel = match request.table() {
            SideTable::Late => SinkChannel::Late,
            SideTable::DeadLetters => SinkChannel::DeadLetters,
            SideTable::Unspecified => return Err(unspecified()),
        };
        let into = match &request.into {
            Some(Where::File(path)) => {
                self.roots.check_path(path, path)?;
                ReadmitInto::File { path: path.clone(), header: request.header.clone() }
            }
            Some(Where::Topic(topic)) => ReadmitInto::Topic(topic.clone()),
            None => return Err(Error::new(Code::Usage, "say where to: a file or a topic")),
        };
        let told = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let run = told(&request.run);
        let asked = side::readmission(&self.view, &request.job, channel, run.as_deref(), into)?;
        let (ids, limit, request) = (told(&request.ids), request.limit, request.request_id.clone());
        Ok(Readmission { ids, limit, request, ..asked })
    }

    fn checkpoints(&self, job: &str, run: Option<&str>, limit: usize) -> Result<Vec<Checkpoint>> {
        Ok(checkpoints::list(&self.view, &self.job(job, run)?, limit))
    }

    fn checkpoint(&self, job: &str, run: Option<&str>, epoch: Epoch) -> Result<CheckpointReport> {
        checkpoints::describe(&self.view, &self.job(job, run)?, epoch)
    }

    fn audit(&self, job: &str, run: Option<&str>) -> Result<Report> {
        // Paths of a cluster's jobs are absolute.
        audit::audit(&self.view, &self.job(job, run)?, Path::new("/"))
    }

    fn operator(&self, claim: &Claimed, wanted: &str) -> Result<OperatorId> {
        let manifest = self.checkpoints.read_manifest(&claim.manifest_key, &claim.checksum)?;
        Ok(manifest.graph.find(wanted)?.id)
    }

    fn starts(&self, claim: &Claimed) -> Result<Vec<TopicStart>> {
        let manifest = self.checkpoints.read_manifest(&claim.manifest_key, &claim.checksum)?;
        let mut starts = starts_of(&manifest.sources);
        for name in hold::lookups(&manifest.graph)? {
            // Of a topic that is gone nothing is needed.
            let Some(topic) = self.view.topics()?.find(&name)? else { continue };
            let start = |partition| TopicStart { topic: name.to_string(), id: None, partition, offset: 0 };
            starts.extend((0..topic.partitions()).map(start));
        }
        Ok(starts)
    }

    fn consumed_topics(&self) -> Result<BTreeMap<String, u64>> {
        let topics = self.view.topics()?;
        let mut consumed = BTreeMap::new();
        for name in topics.list()? {
            // One that is just being deleted is none.
            if let Some(topic) = topics.find(&name)?.filter(|topic| topic.spec().retention.consumed) {
                consumed.insert(name.to_string(), topic.id());
            }
        }
        Ok(consumed)
    }

    fn json(&self, rows: &RecordBatch) -> Result<Vec<String>> {
        rows_as_text(rows)
    }
}

fn unspecified() -> Error {
    Error::new(Code::Usage, "say which rows: late ones or dead letters")
}

/// Hands rows on in groups that fit into a message each. False: nobody wants more.
fn in_parts<T>(rows: Vec<T>, bytes: impl Fn(&T) -> usize, mut send: impl FnMut(Vec<T>) -> bool) -> bool {
    /// With the largest row, well below what a client takes.
    const BYTES: usize = 1 << 20;
    let (mut part, mut filled) = (Vec::new(), 0);
    for row in rows {
        filled += bytes(&row);
        part.push(row);
        if filled >= BYTES {
            filled = 0;
            if !send(std::mem::take(&mut part)) {
                return false;
            }
        }
    }
    part.is_empty() || send(part)
}

/// Sends a client what is read of a topic.
struct Sending<'a> {
    reader: &'a ClusterReader,
    format: RowFormat,
    parts: &'a Parts<TailEvent>,
}

impl TailReader for Sending<'_> {
    fn started(&mut self, offsets: &BTreeMap<u32, u64>) -> bool {
        let offsets = offsets.iter().map(|(partition, offset)| (*partition, *offset)).collect();
        self.parts.send(TailEvent { event: Some(Event::Started(TailStarted { offsets })) })
    }

    fn rows(&mut self, rows: TailRows) -> Result<bool> {
        let events = tail_events(self.reader, self.format, &rows)?;
        Ok(events.into_iter().all(|event| self.parts.send(event)))
    }

    fn is_there(&self) -> bool {
        self.parts.is_wanted()
    }
}
