//! All readers of one workload, looked through together.

use std::fmt;
use std::path::Path;

use anyhow::Result;
use arrow::array::Int64Array;
use arrow::record_batch::RecordBatch;

use super::workload::{IDS_HEADER, JOB, WINDOWS_HEADER, Workload};
use crate::oracle::Violation;
use crate::oracle::expected::{WindowKey, WindowVerdict, Windows, check_value, parse_time_ms};
use crate::oracle::folder::FolderReader;
use crate::oracle::ids::{IdSet, Reconciliation};
use crate::oracle::topic::TopicReader;

/// Looks at everything a workload writes.
pub struct Watch {
    records: u64,
    files: Option<(FolderReader, IdSet)>,
    log: Option<(TopicReader, IdSet)>,
    windows: Option<(FolderReader, Windows)>,
    /// Rows there must hold nothing: nothing is late, nothing cannot be decoded.
    side: Vec<(String, TopicReader)>,
}

/// What was found at the end.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Verdict {
    pub files: Option<Reconciliation>,
    pub log: Option<Reconciliation>,
    pub windows: Option<WindowVerdict>,
    pub epochs: u64,
    pub committed_files: u64,
    pub runs: u64,
}

impl Verdict {
    /// How much of everything is there.
    pub fn committed(&self) -> (Option<u64>, Option<u64>, Option<u64>, u64) {
        (
            self.files.as_ref().map(|ids| ids.reconciled),
            self.log.as_ref().map(|ids| ids.reconciled),
            self.windows.as_ref().map(|windows| windows.right),
            self.committed_files,
        )
    }

    /// With what was found of another job.
    pub fn add(&mut self, other: Self) {
        fn both<T>(mine: &mut Option<T>, other: Option<T>, add: impl Fn(&mut T, T)) {
            match (mine.as_mut(), other) {
                (Some(mine), Some(other)) => add(mine, other),
                (None, other) => *mine = other,
                (Some(_), None) => {}
            }
        }
        both(&mut self.files, other.files, Reconciliation::add);
        both(&mut self.log, other.log, Reconciliation::add);
        both(&mut self.windows, other.windows, WindowVerdict::add);
        self.epochs += other.epochs;
        self.committed_files += other.committed_files;
        self.runs += other.runs;
    }

    pub fn is_exact(&self) -> bool {
        self.files.as_ref().is_none_or(Reconciliation::is_exact)
            && self.log.as_ref().is_none_or(Reconciliation::is_exact)
            && self.windows.as_ref().is_none_or(WindowVerdict::is_exact)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, ids) in [("files", &self.files), ("topic", &self.log)] {
            if let Some(ids) = ids {
                writeln!(
                    f,
                    "{name:<10} {} of {} records reconciled, {} lost, {} duplicated, {} foreign",
                    ids.reconciled, ids.expected, ids.lost, ids.duplicated, ids.foreign
                )?;
                ids.examples.iter().try_for_each(|example| writeln!(f, "  {example}"))?;
            }
        }
        if let Some(windows) = &self.windows {
            writeln!(
                f,
                "windows    {} of {} right, {} lost, {} duplicated, {} wrong",
                windows.right, windows.expected, windows.lost, windows.duplicated, windows.wrong
            )?;
            windows.examples.iter().try_for_each(|example| writeln!(f, "  {example}"))?;
        }
        Ok(())
    }
}

impl Watch {
    /// For a workload that runs in `folder`.
    pub fn new(workload: &Workload, folder: &Path) -> Self {
        let reader = |path: &str, header| {
            FolderReader::new(&folder.join(path), Some(folder.join(&workload.place.manifests)), header)
        };
        let topic = |name: &str| TopicReader::new(&folder.join(&workload.place.topics).join(name));
        let side = |kind: &str| (format!("{JOB}.{kind}"), topic(&format!("{JOB}.{kind}")));
        Self {
            records: workload.records,
            files: workload.file.then(|| (reader("ids", IDS_HEADER), IdSet::new(workload.records))),
            log: workload.log.then(|| (topic(&workload.topic), IdSet::new(workload.records))),
            windows: workload.windows.then(|| (reader("windows", WINDOWS_HEADER), Windows::default())),
            side: vec![side("late"), side("dead-letters")],
        }
    }

    /// Ids committed so far, by the sink that has fewest.
    pub fn committed(&self) -> u64 {
        let files = self.files.as_ref().map(|(_, ids)| ids.count());
        let log = self.log.as_ref().map(|(_, ids)| ids.count());
        files.into_iter().chain(log).min().unwrap_or(0)
    }

    /// Whether a file shows that no record names yet.
    pub fn is_committing(&self) -> bool {
        let folders = [self.files.as_ref().map(|f| &f.0), self.windows.as_ref().map(|w| &w.0)];
        folders.into_iter().flatten().any(FolderReader::is_committing)
    }

    /// Whether there is a folder in which a commit can be seen.
    pub fn sees_files(&self) -> bool {
        self.files.is_some() || self.windows.is_some()
    }

    /// One look; may happen at any moment.
    ///
    /// # Errors
    /// If something cannot be read.
    pub fn observe(&mut self) -> Result<Vec<Violation>> {
        self.look(false)
    }

    /// The last look: all that must hold once the job has ended, and the verdict.
    ///
    /// # Errors
    /// If something cannot be read.
    pub fn finish(&mut self) -> Result<(Verdict, Vec<Violation>)> {
        let mut violations = self.look(true)?;
        for (name, reader) in &mut self.side {
            violations.extend(reader.observe(&mut |_| Ok(()))?);
            if reader.rows() > 0 {
                violations.push(format!("topic {name} holds {} rows, and nothing was late or wrong", reader.rows()));
            }
        }
        let folders = [self.files.as_ref().map(|f| &f.0), self.windows.as_ref().map(|w| &w.0)];
        let verdict = Verdict {
            files: self.files.as_ref().map(|(_, ids)| ids.reconcile()),
            log: self.log.as_ref().map(|(_, ids)| ids.reconcile()),
            windows: self.windows.as_ref().map(|(_, windows)| windows.reconcile(self.records)),
            epochs: folders.iter().flatten().map(|reader| reader.epochs()).max().unwrap_or(0),
            committed_files: folders.iter().flatten().map(|reader| reader.files()).sum(),
            runs: self.log.as_ref().map_or(0, |(reader, _)| reader.runs()),
        };
        Ok((verdict, violations))
    }

    /// As [`Watch::finish`], and again by a reader that comes only now: it must see the same. Its verdict is returned
    /// if the two differ, which is a violation.
    ///
    /// # Errors
    /// If something cannot be read.
    pub fn finish_twice(&mut self, workload: &Workload, folder: &Path) -> Result<(Verdict, Vec<Violation>)> {
        let (found, mut violations) = self.finish()?;
        let (again, last) = Self::new(workload, folder).finish()?;
        violations.extend(last);
        if again.committed() == found.committed() {
            return Ok((found, violations));
        }
        violations.push(format!("a new reader finds {again:?}, the one that was there {found:?}"));
        Ok((again, violations))
    }

    fn look(&mut self, ended: bool) -> Result<Vec<Violation>> {
        let mut violations = Vec::new();
        if let Some((reader, ids)) = &mut self.files {
            let surplus = ids.surplus();
            let mut check = |fields: &[&str]| see_id(fields, ids);
            let found = if ended { reader.finish(&mut check)? } else { reader.observe(&mut check)? };
            violations.extend(found.into_iter().map(|v| format!("ids: {v}")));
            report_surplus("file", surplus, ids, &mut violations);
        }
        if let Some((reader, ids)) = &mut self.log {
            let surplus = ids.surplus();
            let found = reader.observe(&mut |batch| see_batch(batch, ids))?;
            violations.extend(found.into_iter().map(|v| format!("topic ids: {v}")));
            report_surplus("topic", surplus, ids, &mut violations);
        }
        if let Some((reader, windows)) = &mut self.windows {
            let mut check = |fields: &[&str]| see_window(fields, windows);
            let found = if ended { reader.finish(&mut check)? } else { reader.observe(&mut check)? };
            violations.extend(found.into_iter().map(|v| format!("windows: {v}")));
        }
        Ok(violations)
    }
}

fn report_surplus(what: &str, before: u64, ids: &IdSet, violations: &mut Vec<Violation>) {
    let more = ids.surplus() - before;
    if more > 0 {
        violations.push(format!("{more} ids came to the {what} twice or from nowhere: {:?}", ids.reconcile().examples));
    }
}

fn see_id(fields: &[&str], ids: &mut IdSet) -> Result<(), String> {
    let numbers: Option<Vec<i64>> = fields.iter().map(|field| field.parse().ok()).collect();
    match numbers.as_deref() {
        Some([id, checked]) if *checked == check_value(*id) => {
            ids.see(*id);
            Ok(())
        }
        _ => Err(format!("row {fields:?} was never made")),
    }
}

fn see_batch(batch: &RecordBatch, ids: &mut IdSet) -> Result<(), String> {
    let column = |name: &str| {
        let column = batch.column_by_name(name).and_then(|c| c.as_any().downcast_ref::<Int64Array>());
        column.ok_or_else(|| format!("there is no column {name} of BIGINT"))
    };
    for (id, checked) in column("id")?.iter().zip(column("checked")?) {
        match (id, checked) {
            (Some(id), Some(checked)) if checked == check_value(id) => ids.see(id),
            row => return Err(format!("row {row:?} was never made")),
        }
    }
    Ok(())
}

fn see_window(fields: &[&str], windows: &mut Windows) -> Result<(), String> {
    let wrong = || format!("row {fields:?} is no answer");
    let [start, numbers @ ..] = fields else { return Err(wrong()) };
    let numbers: Option<Vec<i64>> = numbers.iter().map(|field| field.parse().ok()).collect();
    match (parse_time_ms(start), numbers.as_deref()) {
        (Some(start_ms), Some([key, count, total])) => {
            windows.see(WindowKey { start_ms, key: *key }, *count, *total);
            Ok(())
        }
        _ => Err(wrong()),
    }
}
