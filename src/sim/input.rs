//! What a simulated job reads: generated rows, or copies of the user's files.

use std::path::{Path, PathBuf};

use qanat_connectors::filesystem;
use qanat_proto::graph::OperatorKind;
use qanat_proto::{Code, Error, Place, Result};
use qanat_sql::PlannedScript;
use qanat_storage::env::sim::SimDisk;
use qanat_storage::env::{Disk, Env, OpenMode};

/// Bytes of files that a simulation takes at most: it holds them in memory, and reads them thousands of times.
const BYTES_MAX: u64 = 64 << 20;

/// Files to be put where the simulated jobs look for them.
pub(super) struct Input(Vec<(PathBuf, Vec<u8>)>);

impl Input {
    /// Reads what the jobs of a script read.
    ///
    /// # Errors
    /// E0205 for a source that does not end or that no simulation has; E0202 for more than fits; what reading says.
    pub(super) fn gather(env: &Env, script: &PlannedScript) -> Result<Self> {
        let mut files = Vec::new();
        let mut bytes = 0;
        for graph in script.jobs.iter().map(|job| &job.graph) {
            for operator in &graph.operators {
                let (table, is_bounded) = match &operator.kind {
                    OperatorKind::Source(node) => (&node.table, node.bounded),
                    OperatorKind::LookupJoin(node) => (&node.table, true),
                    _ => continue,
                };
                let at = || Place::Named(table.name.clone());
                if !is_bounded {
                    let message = format!("`{}` never ends, and a simulation has to come to an end", table.name);
                    let hint = "bound it: 'number-of-rows' for generated rows; files that are not followed";
                    return Err(Error::new(Code::BadRole, message).at(at()).hint(hint));
                }
                match table.connector.as_str() {
                    "datagen" | "nexmark" | "values" => {}
                    "filesystem" => {
                        let path = table.option("path").unwrap_or_default();
                        for (path, len) in filesystem::files_of(env.disk.as_ref(), Path::new(""), path)? {
                            bytes += len;
                            if bytes > BYTES_MAX {
                                let message = format!(
                                    "its input is larger than the {} MiB that a simulation takes",
                                    BYTES_MAX >> 20
                                );
                                let hint = "give it a sample: `--set` may fill another path into the script";
                                return Err(Error::new(Code::Usage, message).at(at()).hint(hint));
                            }
                            if !files.iter().any(|(known, _)| *known == path) {
                                let content = read(env, &path)?;
                                files.push((path, content));
                            }
                        }
                    }
                    other => {
                        let message = format!("`{}` reads from `{other}`, which a simulation has not", table.name);
                        return Err(Error::new(Code::BadRole, message).at(at()).hint("read files or generated rows"));
                    }
                }
            }
        }
        Ok(Self(files))
    }

    /// Puts the files onto a simulated disk, durably, relative paths below its root.
    ///
    /// # Errors
    /// If two of them cannot both be there.
    pub(super) fn put(&self, disk: &SimDisk) -> std::io::Result<()> {
        for (path, content) in &self.0 {
            if let Some(folder) = path.parent() {
                disk.create_dir_all(folder)?;
                folder.ancestors().try_for_each(|folder| disk.sync_dir(folder))?;
            }
            let file = disk.open(path, OpenMode::CreateNew)?;
            file.write_all_at(content, 0)?;
            file.sync_all()?;
            path.parent().map_or(Ok(()), |folder| disk.sync_dir(folder))?;
        }
        Ok(())
    }
}

fn read(env: &Env, path: &Path) -> Result<Vec<u8>> {
    let failed = |e: std::io::Error| Error::io(format!("read `{}`", path.display()), &e);
    let file = env.disk.open(path, OpenMode::Read).map_err(failed)?;
    let mut content = vec![0; usize::try_from(file.len().map_err(failed)?).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut content, 0).map_err(failed)?;
    Ok(content)
}
