//! A commit record of the file sink, read by its documentation (`docs/file-sink.md`).

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// What a record says, as far as this reader needs it.
#[derive(Clone, Debug, Deserialize)]
pub struct Record {
    pub version: u32,
    pub job: String,
    pub operator: String,
    pub epoch: u64,
    pub generation: u64,
    pub manifest_key: String,
    pub previous: Option<u64>,
    pub files: Vec<RecordFile>,
    pub removed: Vec<String>,
    pub record_crc32c: u32,
}

#[derive(Clone, Debug, Deserialize)]
pub struct RecordFile {
    pub path: String,
    pub rows: u64,
    pub hash: String,
    pub bytes: u64,
    pub crc32c: u32,
}

/// Reads and verifies the record at `<folder>/_commits/<job>/<operator>/<epoch>.json`.
///
/// # Errors
/// If it is not whole: not JSON, a wrong checksum, or not what its place says.
pub fn read(path: &Path) -> Result<Record> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    parse(&text, path).with_context(|| format!("record {}", path.display()))
}

fn parse(text: &str, path: &Path) -> Result<Record> {
    let record: Record = serde_json::from_str(text)?;
    ensure!(record.version == 1, "version {}", record.version);
    // The checksum is over the one line with the field itself 0.
    let line = text.strip_suffix('\n').unwrap_or(text);
    let field = format!("\"record_crc32c\":{}", record.record_crc32c);
    let Some(at) = line.rfind(&field) else { bail!("no checksum field where it should be") };
    let blank = format!("{}\"record_crc32c\":0{}", &line[..at], &line[at + field.len()..]);
    let found = crc32c::crc32c(blank.as_bytes());
    ensure!(found == record.record_crc32c, "checksum {found}, the record says {}", record.record_crc32c);
    let part = |up: usize| path.ancestors().nth(up).and_then(|p| p.file_stem()).and_then(|s| s.to_str());
    ensure!(part(0) == Some(record.epoch.to_string().as_str()), "epoch {} is not its name", record.epoch);
    ensure!(part(1) == Some(record.operator.as_str()), "operator {} is not its folder", record.operator);
    ensure!(part(2) == Some(record.job.as_str()), "job {} is not its folder", record.job);
    Ok(record)
}

/// `part-<job>-g<generation>-e<epoch>-<operator>-<subtask>-<sequence>.<suffix>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName {
    pub job: String,
    pub generation: u64,
    pub epoch: u64,
    pub operator: String,
}

impl ObjectName {
    pub fn parse(file: &str) -> Option<Self> {
        let (stem, _) = file.strip_prefix("part-")?.split_once('.')?;
        let parts: Vec<&str> = stem.split('-').collect();
        let [job, generation, epoch, operator, _, _] = parts.as_slice() else { return None };
        Some(Self {
            job: (*job).to_owned(),
            generation: generation.strip_prefix('g')?.parse().ok()?,
            epoch: epoch.strip_prefix('e')?.parse().ok()?,
            operator: (*operator).to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        let name = ObjectName::parse("part-ab-g2-e00000017-0b7d-0-16.csv").expect("a well-formed name");
        assert_eq!((name.generation, name.epoch, name.operator.as_str()), (2, 17, "0b7d"));
        assert_eq!(ObjectName::parse("part-ab.csv"), None);
        assert_eq!(ObjectName::parse("other"), None);
    }

    #[test]
    fn a_changed_record_is_refused() {
        let blank = r#"{"version":1,"job":"j","operator":"o","epoch":3,"generation":1,"manifest_key":"m","previous":null,"files":[],"removed":[],"record_crc32c":0}"#;
        let whole = blank.replace("c\":0}", &format!("c\":{}}}", crc32c::crc32c(blank.as_bytes())));
        assert!(parse(&whole, Path::new("out/_commits/j/o/3.json")).is_ok());
        assert!(parse(&whole, Path::new("out/_commits/j/o/4.json")).is_err());
        let changed = whole.replace("\"generation\":1", "\"generation\":2");
        assert!(parse(&changed, Path::new("out/_commits/j/o/3.json")).is_err());
    }
}
