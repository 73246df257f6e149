//! `sink.partition-commit.*`: a success file tells readers that a partition is complete, by Flink's rules.
//!
//! ```text
//! process-time    when `delay` has passed since the partition's first file was committed
//! partition-time  when the watermark has passed the partition's own time by `delay`
//! ```
//! and at the end of a bounded input. Only a commit announces, so what a success file stands for is
//! committed. Nothing is remembered beside the folder: after a restart the partitions that the job's
//! records name and that have no success file are those still to be announced.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use chrono::{NaiveDate, NaiveTime};
use qanat_proto::error::{Code, Error, Place, Result};
use qanat_storage::env::OpenMode;

use super::commit::inside;
use super::options::{PartitionCommit, Trigger};
use super::{FileTable, folder, partition};
use crate::filesystem::committed::{read_record, records_that_count};

/// Partitions that are committed and not announced, with the time of their first file, ms.
#[derive(Debug, Default)]
pub(super) struct Pending(BTreeMap<String, i64>);

impl Pending {
    /// What the records in `records` name and nobody announced.
    pub(super) fn load(table: &FileTable, commit: &PartitionCommit, records: &Path) -> Result<Self> {
        let mut pending = Self::default();
        let mut names = records.iter().rev().map(|name| name.to_str().unwrap_or_default());
        let (operator, job) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
        let disk = table.env.disk.as_ref();
        for (_, entry) in records_that_count(disk, &table.root, job, operator)? {
            let Some(record) = read_record(disk, &entry.path)? else { continue };
            for file in &record.files {
                pending.add(table, commit, &file.path, entry.modified_ms)?;
            }
        }
        Ok(pending)
    }

    /// A file of this path was committed.
    pub(super) fn add(&mut self, table: &FileTable, commit: &PartitionCommit, path: &str, now_ms: i64) -> Result<()> {
        let Some((partition, _)) = path.rsplit_once('/') else { return Ok(()) };
        if let Some(first) = self.0.get_mut(partition) {
            *first = (*first).min(now_ms);
            return Ok(());
        }
        let success = inside(&table.root, partition)?.join(&commit.success_file);
        let is_announced =
            table.env.disk.exists(&success).map_err(|e| Error::io(format!("look at {}", success.display()), &e))?;
        if !is_announced {
            self.0.insert(partition.to_owned(), now_ms);
        }
        Ok(())
    }

    /// Announces what is due. `watermark`: the lowest of all subtasks, where they report it.
    pub(super) fn announce(
        &mut self,
        table: &FileTable,
        commit: &PartitionCommit,
        watermark: Option<i64>,
    ) -> Result<()> {
        let now_ms = table.env.clock.now_ms();
        let is_end = watermark == Some(i64::MAX);
        let mut due = Vec::new();
        for (partition, first_ms) in &self.0 {
            let is_due = is_end
                || match &commit.trigger {
                    Trigger::ProcessTime => now_ms >= first_ms.saturating_add(commit.delay_ms),
                    Trigger::PartitionTime { .. } => watermark.is_some_and(|watermark| {
                        let time = commit.time_of(partition);
                        time.is_ok_and(|time| watermark >= time.saturating_add(commit.delay_ms))
                    }),
                };
            if is_due {
                due.push(partition.clone());
            }
        }
        for partition in due {
            let target = inside(&table.root, &partition)?;
            let path = target.join(&commit.success_file);
            match table.env.disk.open(&path, OpenMode::OpenOrCreate) {
                Ok(_) => folder::sync(&table.env, &target)?,
                // A reader moved the whole partition on after the record named its files.
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io(format!("create {}", path.display()), &e)),
            }
            self.0.remove(&partition);
        }
        Ok(())
    }
}

impl PartitionCommit {
    /// Whether a commit needs to hear of the watermark, and to be called in epochs without rows.
    pub(super) fn waits(&self) -> bool {
        self.delay_ms > 0 || matches!(self.trigger, Trigger::PartitionTime { .. })
    }

    /// The time of a partition in ms since 1970 UTC, from its folder.
    ///
    /// # Errors
    /// E0217 if its values make no time. Asked before rows are staged: a commit must not fail.
    pub(super) fn time_of(&self, partition: &str) -> Result<i64> {
        let Trigger::PartitionTime { pattern } = &self.trigger else { return Ok(0) };
        let values = partition::parse_folder(&format!("{partition}/"));
        let text = match pattern {
            None => values.first().and_then(|(_, value)| value.clone()).unwrap_or_default(),
            Some(pattern) => {
                // Longer names first: `$day` is not the start of `$days`.
                let mut names: Vec<&(String, Option<String>)> = values.iter().collect();
                names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
                names.iter().fold(pattern.clone(), |text, (name, value)| {
                    text.replace(&format!("${name}"), value.as_deref().unwrap_or("NULL"))
                })
            }
        };
        parse_time(&text).ok_or_else(|| {
            Error::new(Code::Encode, format!("partition `{partition}` has no time: `{text}` is not one"))
                .at(Place::Named("partition.time-extractor.timestamp-pattern".to_owned()))
                .hint("write a pattern that gives `2024-01-31 10:00:00` or `2024-01-31`, such as `$day $hour:00:00`")
        })
    }
}

/// `2024-01-31 10:00:00` or `2024-01-31`; single digits will do, as for Flink.
fn parse_time(text: &str) -> Option<i64> {
    let text = text.trim();
    let (date, time) = text.split_once([' ', 'T']).unwrap_or((text, "0:0:0"));
    let numbers = |text: &str, by: char| -> Option<Vec<u32>> { text.split(by).map(|part| part.parse().ok()).collect() };
    let [year, month, day] = numbers(date, '-')?.try_into().ok()?;
    let time = time.split_once('.').map_or(time, |(whole, _)| whole);
    let (hour, minute, second) = match numbers(time, ':')?.as_slice() {
        [hour, minute] => (*hour, *minute, 0),
        [hour, minute, second] => (*hour, *minute, *second),
        _ => return None,
    };
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
    Some(date.and_time(NaiveTime::from_hms_opt(hour, minute, second)?).and_utc().timestamp_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_partition_is_in_its_folder() {
        let commit = |pattern: Option<&str>| PartitionCommit {
            success_file: "_SUCCESS".to_owned(),
            trigger: Trigger::PartitionTime { pattern: pattern.map(str::to_owned) },
            delay_ms: 0,
        };
        let hour = commit(Some("$day $hour:00:00")).time_of("day=2024-01-02/hour=7").expect("a time");
        assert_eq!(hour, 1_704_178_800_000);
        assert_eq!(commit(None).time_of("day=2024-01-02").expect("a time"), 1_704_153_600_000);
        assert_eq!(commit(Some("$d-$m-1")).time_of("d=2024/m=1").expect("a time"), 1_704_067_200_000);
        for bad in ["day=x", "day=__HIVE_DEFAULT_PARTITION__", "day=2024-13-01", "day=2024-01-01 25%3A00%3A00"] {
            assert_eq!(commit(None).time_of(bad).expect_err("no time").code(), Code::Encode, "{bad}");
        }
    }
}
