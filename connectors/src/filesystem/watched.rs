//! A file that must stay what it is while it is read.

use std::sync::Arc;

use qanat_proto::error::{Code, Error, Result};
use qanat_storage::env::File;
use serde::{Deserialize, Serialize};

use crate::format::stream::FileInput;

/// What tells a file from another of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(super) size: u64,
    pub(super) modified_ms: i64,
}

/// A file and what it was when it was opened.
pub(crate) struct Watched {
    file: Arc<dyn File>,
    input: FileInput,
    pub(super) identity: Identity,
}

impl Watched {
    pub(super) fn open(input: &FileInput) -> Result<Self> {
        let file = input.open()?;
        let identity = identity_of(file.as_ref(), input)?;
        Ok(Self { file, input: input.clone(), identity })
    }

    /// To be asked when something was read: what was read before the file changed is good.
    ///
    /// # Errors
    /// E0212 if the file has changed since it was opened.
    pub(super) fn check(&self) -> Result<()> {
        let now = identity_of(self.file.as_ref(), &self.input)?;
        if now == self.identity { Ok(()) } else { Err(changed(&self.input, self.identity, now)) }
    }
}

fn identity_of(file: &dyn File, input: &FileInput) -> Result<Identity> {
    let failed = |e: std::io::Error| input.io_error("read", &e);
    Ok(Identity { size: file.len().map_err(failed)?, modified_ms: file.modified_ms().map_err(failed)? })
}

/// E0212 for a file that is not what it was.
pub(super) fn changed(input: &FileInput, begun: Identity, found: Identity) -> Error {
    let message = format!(
        "`{}` changed since the job began to read it (it had {} bytes, now it has {})",
        input.origin, begun.size, found.size
    );
    let hint = "files must not change while they are read; start the job anew, or follow the path with \
                'source.monitor-interval'";
    Error::new(Code::SourceChanged, message).at(input.place()).hint(hint)
}
