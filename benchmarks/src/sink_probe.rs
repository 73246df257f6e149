//! What a folder of the file sink shows from moment to moment, after `docs/file-sink.md`: rows that reach the sink
//! (a staged file appears with the first row of an epoch) and rows that are committed (a record appears).

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use qanat_storage::env::Clock;

/// Between two looks.
pub const POLL: Duration = Duration::from_millis(1);

/// Looks at one table's folder.
#[derive(Debug)]
pub struct SinkProbe {
    folder: PathBuf,
    records: Option<PathBuf>,
}

impl SinkProbe {
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), records: None }
    }

    /// The newest generation with rows that have reached the sink and are not committed yet; 0 for none.
    pub fn processed_generation(&self) -> u64 {
        names(&self.folder.join(".staged")).iter().filter_map(|name| generation_of(name)).max().unwrap_or(0)
    }

    /// The newest epoch with a record, and the generation that wrote it; zeros for none.
    ///
    /// # Errors
    /// If a record cannot be read.
    pub fn visible(&mut self) -> Result<(u64, u64)> {
        if self.records.is_none() {
            let Some(job) = first_folder(&self.folder.join("_commits")) else { return Ok((0, 0)) };
            self.records = first_folder(&job);
        }
        let Some(records) = &self.records else { return Ok((0, 0)) };
        let epoch_of = |name: String| Some((name.strip_suffix(".json")?.parse::<u64>().ok()?, name));
        let Some((epoch, name)) = names(records).into_iter().filter_map(epoch_of).max() else { return Ok((0, 0)) };
        let text = std::fs::read_to_string(records.join(name))?;
        let record: serde_json::Value = serde_json::from_str(&text).context("a record is no JSON")?;
        Ok((epoch, record["generation"].as_u64().context("a record without a generation")?))
    }
}

/// Waits for `look` to find something, and says when it did.
///
/// # Errors
/// What `look` says, or that `deadline` is over.
pub fn wait<T>(
    clock: &dyn Clock,
    deadline: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<(Duration, T)> {
    let begun = clock.monotonic();
    loop {
        if let Some(found) = look()? {
            return Ok((clock.monotonic(), found));
        }
        if clock.monotonic().saturating_sub(begun) > deadline {
            bail!("{what} did not come within {deadline:?}");
        }
        std::thread::sleep(POLL);
    }
}

/// Names in a folder; none if it is not there.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn first_folder(folder: &Path) -> Option<PathBuf> {
    names(folder).into_iter().map(|name| folder.join(name)).find(|path| path.is_dir())
}

/// `<job id>-g<generation>-e<epoch>-...`
fn generation_of(object: &str) -> Option<u64> {
    object.split('-').nth(1)?.strip_prefix('g')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_staged_name_tells_its_generation() {
        assert_eq!(generation_of("00ff-g12-e40-7-1-0.csv"), Some(12));
        assert_eq!(generation_of("part"), None);
    }
}
