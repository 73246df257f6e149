//! Late rows and dead letters that clients have written again: by the owner of the log, each once.

use std::sync::Arc;

use qanat_coordinator_core::Command;
use qanat_proto::owner::{OwnerAnswer, OwnerTask, Readmission};
use qanat_proto::rpc::control::{ReadmitPart, ReadmitRequest, Readmitted, SideTable};
use qanat_proto::rpc::status::status_of;
use qanat_proto::{Error, owner};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::data::{Answers, BEAT, DataService, QUEUED};
use super::topics::check_request_id;
use crate::owner::Owners;

impl DataService {
    pub(super) async fn write_again(&self, mut request: ReadmitRequest) -> Result<Answers<ReadmitPart>, Status> {
        check_request_id(&request.request_id, "a readmission").map_err(|error| status_of(&error))?;
        if let Some((name, id)) = self.of_id(&request.job)? {
            (request.job, request.run) = (name, id.to_string());
        }
        let what = match request.table() {
            SideTable::Late => "late rows",
            SideTable::DeadLetters | SideTable::Unspecified => "dead letters",
        };
        let note = Command::Note { object: format!("{what} of job {}", request.job) };
        let asked = self.look(move |reader| reader.readmission(&request)).await?;
        // Before it comes about: who asks again after that is told what came of it.
        self.member.propose_async(note).await.map_err(|error| status_of(&error))?.map_err(|r| super::refused(&r))?;
        // Its notes lie in a topic of their own.
        let topic = format!("{}.readmitted", asked.job);
        let (sender, parts) = mpsc::channel(QUEUED);
        tokio::spawn(answer(self.owners.clone(), topic, asked, sender));
        Ok(Box::pin(ReceiverStream::new(parts)))
    }
}

/// Has the owner of the notes do it, and the owners of topics what it asks for: each in turn, until nothing is left.
async fn readmit(owners: &Owners, notes: &str, asked: Readmission) -> Result<owner::Readmitted, Status> {
    let (mut published, mut before) = (Vec::new(), 0);
    loop {
        let task = OwnerTask::Readmit { asked: Box::new(asked.clone()), published: published.clone() };
        match owners.perform(notes, &task).await? {
            OwnerAnswer::Publish { batch, topic, handle, completed } => {
                let task = OwnerTask::Publish { topic: topic.clone(), handle };
                owners.perform(&topic, &task).await?;
                published.push(batch);
                before += completed;
            }
            OwnerAnswer::Readmitted(readmitted) => {
                let completed = readmitted.completed + before;
                return Ok(owner::Readmitted { completed, ..readmitted });
            }
            _ => return Err(status_of(&Error::internal("the owner of the log answers something else"))),
        }
    }
}

/// Says now and then that it is being done. Nobody may be there to hear it in the end.
async fn answer(
    owners: Arc<Owners>,
    notes: String,
    asked: Readmission,
    sender: mpsc::Sender<Result<ReadmitPart, Status>>,
) {
    let done = readmit(&owners, &notes, asked);
    tokio::pin!(done);
    let part = loop {
        tokio::select! {
            answer = &mut done => break answer.map(told),
            () = tokio::time::sleep(BEAT) => drop(sender.try_send(Ok(ReadmitPart::default()))),
            () = sender.closed() => return,
        }
    };
    let _ = sender.send(part).await;
}

fn told(readmitted: owner::Readmitted) -> ReadmitPart {
    let owner::Readmitted { readmitted, into, ids, completed } = readmitted;
    ReadmitPart { outcome: Some(Readmitted { readmitted, into: into.unwrap_or_default(), ids, completed }) }
}
