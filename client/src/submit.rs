//! What is submitted.

use std::collections::HashMap;

use qanat_proto::rpc::control::{ScriptRequest, SubmitRequest};
use qanat_proto::{Error, Result};

/// A script to run as one or more jobs.
#[derive(Clone, Debug, PartialEq)]
pub struct Submit {
    name: String,
    script: String,
    set: HashMap<String, String>,
    parallelism: u32,
    request_id: Option<String>,
}

impl Submit {
    /// `script` is SQL; several unconnected queries become jobs `NAME-1`, `NAME-2` and so on.
    pub fn new(name: impl Into<String>, script: impl Into<String>) -> Self {
        let (name, script) = (name.into(), script.into());
        Self { name, script, set: HashMap::new(), parallelism: 0, request_id: None }
    }

    /// A value for `${KEY}` in the script, or a setting by its key.
    pub fn set(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.set.insert(key.into(), value.into());
        self
    }

    /// Subtasks per operator, in place of what the script or the cluster says.
    pub fn parallelism(mut self, parallelism: u32) -> Self {
        self.parallelism = parallelism;
        self
    }

    /// The request's own id: 32 hex digits, drawn at random. The same id never makes two jobs, so a program that
    /// keeps it can ask again after it crashed itself. Drawn anew for each submit if it is not given.
    pub fn request_id(mut self, id: impl Into<String>) -> Self {
        self.request_id = Some(id.into());
        self
    }

    pub(crate) fn into_request(self) -> Result<SubmitRequest> {
        let request_id = match self.request_id {
            Some(id) => id,
            None => random_id()?,
        };
        let script = Some(ScriptRequest { script: self.script, set: self.set });
        Ok(SubmitRequest { script, name: self.name, request_id, parallelism: self.parallelism })
    }
}

/// 128 random bits as hex.
pub(crate) fn random_id() -> Result<String> {
    Ok(format!("{:032x}", u128::from_be_bytes(random()?)))
}

/// Random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| Error::internal(format!("no random number: {e}")))?;
    Ok(bytes)
}
