//! What a run leaves behind to say that its receipt was shown.
//!
//! A finished job starts anew at the next run, one whose receipt nobody saw only shows it. Between the two
//! lies one rename, the last thing a process does: nothing is waited for behind it, so that a kill finds
//! the process either before it (the next run shows the receipt) or gone. Were it a command in the log, a
//! kill during its fdatasync would repeat a run that looked as if it had been killed.
//!
//! ```text
//! <job folder>/.receipt-seen.draft   written and synced before the receipt is printed
//! <job folder>/.receipt-seen         the same, renamed after it: one job id per line, then the CRC32C of the lines
//! ```
//!
//! The next process that opens the folder writes `Acknowledge` into the command log, where facts belong,
//! and removes the file. A power failure may take the rename back: then the receipt is shown once more.

use std::path::{Path, PathBuf};

use qanat_proto::ids::JobId;
use qanat_proto::{Code, Error, Place, Result};
use qanat_storage::env::{Env, OpenMode};

use qanat_storage::small_file;

const NAME: &str = ".receipt-seen";
/// Far more jobs than a script can have.
const BYTES_MAX: u64 = 1 << 20;

/// A note that is ready to be left.
pub(crate) struct ReceiptSeen {
    draft: PathBuf,
    path: PathBuf,
}

impl ReceiptSeen {
    /// Writes the draft for the finished jobs of a run.
    ///
    /// # Errors
    /// If the disk does not take it: the receipt is then shown by the next run.
    pub(crate) fn prepare(env: &Env, folder: &Path, jobs: impl Iterator<Item = JobId>) -> Result<Self> {
        let (path, draft) = (folder.join(NAME), folder.join(format!("{NAME}.draft")));
        let failed = |e: std::io::Error| Error::io(format!("write `{}`", draft.display()), &e);
        remove_if_there(env, &draft)?;
        let file = env.disk.open(&draft, OpenMode::CreateNew).map_err(failed)?;
        file.write_all_at(&to_bytes(jobs), 0).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        Ok(Self { draft, path })
    }

    /// Leaves the note. Not synced: whoever waits for a disk here can be killed here.
    pub(crate) fn leave(&self, env: &Env) {
        // Without it the next run shows the receipt once more.
        let _ = env.disk.rename(&self.draft, &self.path);
    }
}

/// The jobs of a note that was left, if there is one.
///
/// # Errors
/// E0304 if it is damaged.
pub(crate) fn read(env: &Env, folder: &Path) -> Result<Vec<JobId>> {
    let path = folder.join(NAME);
    let Some(bytes) = small_file::read(env, &path, BYTES_MAX)? else { return Ok(Vec::new()) };
    of_bytes(&bytes).ok_or_else(|| {
        Error::new(Code::CorruptLog, "the note of receipts that were shown is damaged")
            .at(Place::Named(path.display().to_string()))
            .hint("remove it: the next run then shows the last receipt once more")
    })
}

/// Removes a note whose jobs are acknowledged. One that comes back after a power failure changes nothing.
pub(crate) fn remove(env: &Env, folder: &Path) -> Result<()> {
    remove_if_there(env, &folder.join(NAME))
}

fn remove_if_there(env: &Env, path: &Path) -> Result<()> {
    match env.disk.remove_file(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io(format!("remove `{}`", path.display()), &e)),
    }
}

fn to_bytes(jobs: impl Iterator<Item = JobId>) -> Vec<u8> {
    small_file::sealed(&jobs.map(|job| format!("{job}\n")).collect::<String>())
}

fn of_bytes(bytes: &[u8]) -> Option<Vec<JobId>> {
    small_file::unsealed(bytes)?.lines().map(|line| line.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_comes_back_and_every_flipped_bit_is_found() {
        let jobs = [JobId(7), JobId(u128::MAX)];
        for jobs in [&jobs[..0], &jobs[..1], &jobs[..]] {
            let bytes = to_bytes(jobs.iter().copied());
            assert_eq!(of_bytes(&bytes).as_deref(), Some(jobs));
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                if let Some(byte) = flipped.get_mut(bit / 8) {
                    *byte ^= 1 << (bit % 8);
                }
                assert_eq!(of_bytes(&flipped), None, "bit {bit}");
            }
            for end in 0..bytes.len() {
                assert_eq!(of_bytes(&bytes[..end]), None, "cut at {end}");
            }
        }
    }
}
