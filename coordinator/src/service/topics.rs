//! Topics that clients make and delete.

use qanat_coordinator_core::State;
use qanat_proto::names::Name;
use qanat_proto::owner::{NewTopic, TopicChange};
use qanat_proto::rpc::control::{CreateTopicRequest, DeleteTopicRequest, Topic};
use qanat_proto::rpc::status::{error_of, status_of};
use qanat_proto::{Code, Error};
use qanat_storage::log::PARTITIONS_MAX;
use tonic::Status;

use super::data::DataService;

impl DataService {
    pub(super) async fn make_topic(&self, request: CreateTopicRequest) -> Result<Topic, Status> {
        let refused = |error: Error| status_of(&error);
        let name = Name::new(&request.topic).map_err(refused)?;
        check_request_id(&request.request_id, "a topic").map_err(refused)?;
        let partitions = request.partitions.max(1);
        if partitions > PARTITIONS_MAX {
            let message = format!("a topic has 1 to {PARTITIONS_MAX} partitions, not {partitions}");
            return Err(refused(Error::new(Code::Usage, message).hint("ask for fewer")));
        }
        // The same request makes the same topic.
        let id = xxhash_rust::xxh3::xxh3_64(request.request_id.as_bytes()).max(1);
        // Made by an earlier try whose answer was lost, and not noted yet: until it is, the topic cannot be deleted.
        let is_pending = |state: &State| {
            let pending = state.topic_changes.get(name.as_str()).map(|pending| &pending.change);
            matches!(pending, Some(TopicChange::Create(new)) if new.id == id)
        };
        match self.find_topic(&name).await? {
            Some(topic) if topic.id == id && !self.member.state(is_pending) => return Ok(topic),
            Some(topic) if topic.id != id => {
                let error = Error::new(Code::Usage, format!("topic `{name}` exists already"));
                return Err(refused(error.hint("`qanat topics describe` shows it; choose another name, or delete it")));
            }
            Some(_) | None => {}
        }
        let (bytes, age_ms, consumed) = (request.retention_bytes, request.retention_age_ms, request.retention_consumed);
        let new = NewTopic { id, partitions, bytes, age_ms, consumed };
        self.changes.change(name.as_str(), TopicChange::Create(new)).await?;
        self.find_topic(&name).await?.ok_or_else(|| {
            status_of(&Error::new(Code::UnknownTopic, format!("topic `{name}` was made, and deleted since")))
        })
    }

    pub(super) async fn remove_topic(&self, request: DeleteTopicRequest) -> Result<(), Status> {
        let name = Name::new(&request.topic).map_err(|error| status_of(&error))?;
        let change = TopicChange::Delete { id: request.id };
        let is_there = self.find_topic(&name).await?.is_some_and(|topic| topic.id == request.id);
        // A repeat finds that it is gone, or on its way out.
        let is_pending = |state: &State| state.topic_changes.get(name.as_str()).is_some_and(|p| p.change == change);
        if !is_there && !self.member.state(is_pending) {
            return Ok(());
        }
        self.changes.change(name.as_str(), change.clone()).await
    }

    async fn find_topic(&self, name: &Name) -> Result<Option<Topic>, Status> {
        let name = name.to_string();
        match self.look(move |reader| reader.topic(&name)).await {
            Ok(topic) => Ok(Some(topic)),
            Err(status) if error_of(&status).code() == Code::UnknownTopic => Ok(None),
            Err(status) => Err(status),
        }
    }
}

/// # Errors
/// E0501 for anything but 32 hex digits.
pub(super) fn check_request_id(id: &str, what: &str) -> qanat_proto::Result<()> {
    if id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(());
    }
    Err(Error::new(Code::Usage, format!("{what} needs a request id of 32 hex digits"))
        .hint("draw it at random, once for each, and keep it for repeats"))
}
