//! One plain file that shows a table.

use std::path::Path;

use qanat_proto::error::{Code, Error, Place, Result};
use qanat_storage::crash_safe::Draft;
use qanat_storage::env::OpenMode;

use crate::filesystem::reread::file_checksum;
use crate::filesystem::sink::{FileTable, commit, folder};
use crate::filesystem::version::newest_version;

/// How often a file is replaced again because the table has changed meanwhile.
const TRIES: usize = 100;

/// Makes the file what the newest version says. A process that slept over it may put an older version in its place when it
/// wakes up; so whoever has replaced the file looks again what the newest is.
pub(super) fn show(table: &FileTable, path: &Path) -> Result<()> {
    let disk = table.env.disk.as_ref();
    let mut shown = None;
    for _ in 0..TRIES {
        let newest = newest_version(disk, &table.root)?;
        let number = newest.as_ref().map(|newest| newest.number);
        if shown == Some(number) {
            return Ok(());
        }
        shown = Some(number);
        let Some(file) = newest.as_ref().and_then(|newest| newest.files.first()) else {
            // All that it ever held was withdrawn.
            folder::remove_if_there(&table.env, path)?;
            folder::sync(&table.env, &folder::parent(path))?;
            continue;
        };
        if file_checksum(disk, path).is_ok_and(|found| found == (file.bytes, file.crc32c)) {
            // Perhaps by a predecessor that died before its sync.
            folder::sync(&table.env, &folder::parent(path))?;
            continue;
        }
        let failed = |e| Error::io(format!("read {}", file.path), &e);
        let from = disk.open(&commit::inside(&table.root, &file.path)?, OpenMode::Read).map_err(failed)?;
        let mut bytes = vec![0; usize::try_from(file.bytes).unwrap_or(0)];
        from.read_exact_at(&mut bytes, 0).map_err(failed)?;
        if crc32c::crc32c(&bytes) != file.crc32c {
            return Err(Error::new(Code::SourceChanged, format!("`{}` is not what was written", file.path))
                .at(Place::Named(path.display().to_string()))
                .hint("something outside Qanat changed a file of the table; put it back"));
        }
        // In the table's own folder: drafts in a folder of the user's would stay there behind a crash.
        let mut draft = Draft::create(&table.env, &table.root)?;
        draft.write(&bytes)?;
        draft.publish_replacing(path)?;
    }
    Ok(())
}
