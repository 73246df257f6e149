//! Topics of a shared folder that are made or deleted because a group decided so.
//!
//! ```text
//! <topics>/.changes/<topic>    document: {"number": 17, "deleted": 81985529216486895}
//! ```
//! The changes of a name have rising numbers, and the last one is recorded before it begins. Whoever was told to make an
//! earlier one, and wakes up after that, makes nothing: it does not matter how many processes were told.

use qanat_proto::error::{Code, Error, Result};
use qanat_proto::names::Name;
use qanat_proto::owner::{NewTopic, TopicChange};
use serde::{Deserialize, Serialize};

use super::document;
use super::retention::Retention;
use super::topic::TopicSpec;
use super::topics::Topics;
use crate::crash_safe;

/// Hidden folder beside the topics.
const CHANGES_FOLDER: &str = ".changes";

/// The last change of a name.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Last {
    number: u64,
    /// Id of the topic that was deleted last.
    #[serde(default)]
    deleted: Option<u64>,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It is made, now or before.
    Made,
    /// A later one was made before it.
    Outdated,
}

impl Topics {
    /// Makes or deletes a topic as the change of this number of its name. May be called again after any failure or crash.
    ///
    /// # Errors
    /// E0501 for another topic of the name, or partitions out of range; E0214 and others if the disk fails.
    pub fn change(&self, name: &Name, number: u64, change: &TopicChange) -> Result<Changed> {
        let _changing = self.creation_lock()?;
        let (env, folder) = (self.env(), self.folder().join(CHANGES_FOLDER));
        crash_safe::create_folder(env.disk.as_ref(), &folder)?;
        let path = folder.join(name.as_str());
        let mut last: Last = document::read(env.disk.as_ref(), &path)?.unwrap_or_default();
        if number < last.number {
            return Ok(Changed::Outdated);
        }
        if number > last.number {
            last.number = number;
            crash_safe::replace(env, &path, &document::to_bytes(&last))?;
        }
        match change {
            // Made before, and deleted since: whoever asks again got its answer late.
            TopicChange::Create(new) if last.deleted == Some(new.id) => {}
            TopicChange::Create(new) => match self.find(name)? {
                Some(topic) if topic.id() == new.id => {}
                Some(_) => return Err(Error::new(Code::Usage, format!("topic `{name}` exists already"))),
                None => drop(self.create_locked(name, spec_of(new), new.id)?),
            },
            TopicChange::Delete { id } => match self.find(name)? {
                Some(topic) if topic.id() == *id => {
                    last.deleted = Some(*id);
                    crash_safe::replace(env, &path, &document::to_bytes(&last))?;
                    self.delete(name)?;
                }
                Some(_) => {}
                None => self.remove_leftovers(name)?,
            },
        }
        Ok(Changed::Made)
    }
}

fn spec_of(new: &NewTopic) -> TopicSpec {
    let NewTopic { id: _, partitions, bytes, age_ms, consumed } = *new;
    TopicSpec { partitions, retention: Retention { bytes, age_ms, consumed } }
}
