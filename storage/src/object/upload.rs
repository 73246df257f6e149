//! An object that arrives in parts.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use object_store::path::Path;
use object_store::{MultipartUpload, PutPayload, PutResult, UploadPart};

use super::directory::{Fault, Inner, write_error};
use crate::crash_safe::Draft;
use crate::env::thread;

/// Parts are written into one draft, each at its place, in whatever order they are polled; `complete`
/// publishes it. Dropped or aborted before that, it leaves nothing.
pub(super) struct DirectoryUpload {
    store: Arc<Inner>,
    key: Path,
    path: PathBuf,
    /// Bytes handed over so far: where the next part begins.
    handed: u64,
    parts: Arc<Mutex<Parts>>,
}

struct Parts {
    /// `None` once completed or aborted.
    draft: Option<Draft>,
    written: u64,
}

impl DirectoryUpload {
    pub(super) fn start(store: &Arc<Inner>, key: &Path) -> Result<Self, Fault> {
        let path = store.place(key)?;
        let draft = Some(store.draft(&path)?);
        let parts = Arc::new(Mutex::new(Parts { draft, written: 0 }));
        Ok(Self { store: store.clone(), key: key.clone(), path, handed: 0, parts })
    }
}

#[async_trait]
impl MultipartUpload for DirectoryUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let mut offset = self.handed;
        self.handed += data.content_length() as u64;
        let (store, key, parts) = (self.store.clone(), self.key.clone(), self.parts.clone());
        Box::pin(async move {
            let mut parts = thread::lock(&parts);
            let Some(draft) = &mut parts.draft else { return Err(ended(&key)) };
            for bytes in &data {
                store.noted(draft.write_at(bytes, offset)).map_err(|fault| write_error(&key, fault))?;
                offset += bytes.len() as u64;
            }
            parts.written += data.content_length() as u64;
            Ok(())
        })
    }

    async fn complete(&mut self) -> object_store::Result<PutResult> {
        let mut parts = thread::lock(&self.parts);
        if parts.written != self.handed {
            let source = format!("{} of {} bytes of {} are written", parts.written, self.handed, self.key).into();
            return Err(object_store::Error::Generic { store: "DirectoryStore", source });
        }
        let draft = parts.draft.take().ok_or_else(|| ended(&self.key))?;
        self.store.publish(draft, &self.path, false).map_err(|fault| write_error(&self.key, fault))?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn abort(&mut self) -> object_store::Result<()> {
        thread::lock(&self.parts).draft = None;
        Ok(())
    }
}

impl fmt::Debug for DirectoryUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectoryUpload").field("key", &self.key).field("handed", &self.handed).finish_non_exhaustive()
    }
}

fn ended(key: &Path) -> object_store::Error {
    let source = format!("the upload of {key} has ended").into();
    object_store::Error::Generic { store: "DirectoryStore", source }
}
