//! An executor's own folder: which node it is, whatever its process is.
//!
//! ```text
//! <data>/.lock      held while a process owns the folder
//! <data>/.cluster   the id of the cluster that it belongs to
//! <data>/.node      a number drawn when the folder was made, and how often a process was started on it
//! ```

use std::path::Path;
use std::sync::Arc;

use qanat_proto::{Code, Error, Place, Result};
use qanat_storage::crash_safe;
use qanat_storage::env::{Env, File};

use crate::cluster::storage::bind;
use qanat_storage::small_file;

/// An opened folder; nobody else has it while this lives.
pub(crate) struct NodeFolder {
    /// Drawn when the folder was made.
    pub(crate) number: u64,
    /// Starts on it, this one included.
    pub(crate) starts: u64,
    _lock: Option<Arc<dyn File>>,
}

impl NodeFolder {
    /// Opens the folder that is locked.
    ///
    /// # Errors
    /// E0302 if it is another cluster's; E0304 if what it says is damaged.
    pub(crate) fn open(env: &Env, root: &Path, cluster: &str, lock: Arc<dyn File>) -> Result<Self> {
        const BYTES_MAX: u64 = 256;
        bind(env, root, cluster)?;
        let path = root.join(".node");
        let damaged = || {
            Error::new(Code::CorruptLog, "what tells which node this is is damaged")
                .at(Place::Named(path.display().to_string()))
                .hint("delete the file: the node is a new one then, and waits until the old one's lease is over")
        };
        let text = small_file::read_sealed(env, &path, BYTES_MAX, "")
            .map_err(|e| if e.code() == Code::CorruptLog { damaged() } else { e })?;
        let (number, before) = match &text {
            Some(text) => parse(text).ok_or_else(damaged)?,
            None => (env.entropy.u64(), 0),
        };
        let starts = before.checked_add(1).ok_or_else(damaged)?;
        // Before anybody hears of this start: the next one counts on.
        crash_safe::replace(env, &path, &small_file::sealed(&format!("{number:016x} {starts}\n")))?;
        Ok(Self { number, starts, _lock: Some(lock) })
    }

    /// Of an executor that has none.
    pub(crate) fn none(env: &Env) -> Self {
        Self { number: env.entropy.u64(), starts: 1, _lock: None }
    }
}

fn parse(text: &str) -> Option<(u64, u64)> {
    let (number, starts) = text.strip_suffix('\n')?.split_once(' ')?;
    Some((u64::from_str_radix(number, 16).ok()?, starts.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use qanat_storage::env::OpenMode;

    use super::*;
    use crate::data_folder::lock;

    fn open(env: &Env, root: &Path, cluster: &str) -> Result<NodeFolder> {
        NodeFolder::open(env, root, cluster, lock(env, root)?)
    }

    #[test]
    fn starts_are_counted_and_folders_told_apart() {
        let sim = Env::sim(1);
        let env = &sim.env;
        let open = |path: &str, cluster: &str| open(env, Path::new(path), cluster);
        let first = open("/a", "c").expect("opens");
        assert_eq!(open("/a", "c").err().map(|e| e.code()), Some(Code::DataFolderLocked), "it is in use");
        let number = first.number;
        drop(first);
        for starts in 2..5 {
            let again = open("/a", "c").expect("opens");
            assert_eq!((again.number, again.starts), (number, starts));
        }
        let other = open("/b", "c").expect("opens");
        assert!(other.number != number && other.starts == 1);
        assert_ne!(NodeFolder::none(env).number, NodeFolder::none(env).number);
        let foreign = open("/a", "d").err();
        assert_eq!(foreign.map(|e| e.code()), Some(Code::ForeignState));
    }

    #[test]
    fn a_damaged_file_is_told_and_never_taken_for_a_new_folder() {
        let sim = Env::sim(1);
        let env = &sim.env;
        let root = Path::new("/a");
        drop(open(env, root, "c").expect("opens"));
        let path = root.join(".node");
        let whole = small_file::sealed("000000000000002a 18446744073709551615\n");
        for bytes in [&b"half"[..], b"", &small_file::sealed("no number\n"), &whole] {
            let file = env.disk.open(&path, OpenMode::OpenOrCreate).expect("opens");
            file.set_len(0).and_then(|()| file.write_all_at(bytes, 0)).expect("writes");
            let error = open(env, root, "c").err().expect("refused");
            assert_eq!((error.code(), error.hint_text().is_some()), (Code::CorruptLog, true));
        }
    }
}
