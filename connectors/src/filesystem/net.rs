//! What changes come to: the rows of the table that a log tells of, or that is kept.
//!
//! However often a row was revised on the way, and however many revisions one flush put together, two runs over the
//! same input come to the same rows; what they wrote on the way differs. `qanat sim` compares these sums.

use std::path::Path;

use arrow::array::{AsArray, RecordBatch};
use qanat_executor_core::receipt::RowHasher;
use qanat_proto::error::{Code, Error, Place, Result};
use qanat_proto::ids::{JobId, OperatorId};
use qanat_proto::receipt::{RowHash, RowSum};
use qanat_storage::env::Disk;

use super::audit::removed_by_any;
use super::committed::{read_record, record_paths};
use super::reread::read_rows;
use super::version::newest_version;

/// The rows that the log of one sink comes to, all its files read again, or those of the table that it keeps. None if an
/// `INSERT OVERWRITE` took some of it away, or the table is another job's by now.
///
/// # Errors
/// E0208 for a file that cannot be read or is gone, a kind that is none, and rows that are taken back and never were
/// there.
pub fn net_rows(disk: &dyn Disk, folder: &Path, job: JobId, operator: OperatorId) -> Result<Option<RowSum>> {
    if let Some(version) = newest_version(disk, folder)? {
        // Its files were read by the audit: they hold what it says.
        return Ok((version.job == job && version.operator == operator).then(|| version.sum()));
    }
    let mut records = Vec::new();
    for path in record_paths(disk, folder, Some(job))? {
        records.extend(read_record(disk, &path)?.filter(|record| record.operator == operator));
    }
    records.sort_by_key(|record| record.epoch);
    let removed = removed_by_any(disk, folder)?;
    if records.iter().flat_map(|record| &record.files).any(|file| removed.contains(&file.path)) {
        return Ok(None);
    }
    let mut net = Net::default();
    for record in &records {
        for file in &record.files {
            let place = || Place::Named(file.path.clone());
            read_rows(disk, folder, record.written(), &file.path, |rows| net.take(rows).map_err(|e| e.or_at(place)))?;
        }
    }
    net.sum().map(Some)
}

#[derive(Default)]
struct Net {
    hasher: RowHasher,
    added: RowSum,
    taken_back: RowSum,
}

impl Net {
    /// The next rows, with their kinds as text in the last column.
    fn take(&mut self, rows: &RecordBatch) -> Result<()> {
        let kinds = are_added(rows)?;
        let rows = rows.project(&(0..rows.num_columns() - 1).collect::<Vec<_>>()).map_err(|e| no_changes(&e))?;
        // By group: taken back and added.
        let groups: Vec<u32> = kinds.into_iter().map(u32::from).collect();
        if let [taken_back, added] = self.hasher.sum_by_group(&rows, &groups, 2)?[..] {
            self.taken_back.add(taken_back);
            self.added.add(added);
        }
        Ok(())
    }

    fn sum(self) -> Result<RowSum> {
        let Self { added, taken_back, .. } = self;
        let rows = added.rows.checked_sub(taken_back.rows);
        let rows = rows.ok_or_else(|| no_changes(&"more rows are taken back than there were"))?;
        Ok(RowSum { rows, hash: RowHash(added.hash.0.wrapping_sub(taken_back.hash.0)) })
    }
}

/// Whether each row is added, and not taken back.
fn are_added(rows: &RecordBatch) -> Result<Vec<bool>> {
    let Some(kinds) = rows.columns().last().and_then(|column| column.as_string_opt::<i32>()) else {
        return Err(no_changes(&"there is no column of kinds"));
    };
    let is_added = |kind: Option<&str>| match kind {
        Some("+I" | "+U") => Ok(true),
        Some("-U" | "-D") => Ok(false),
        kind => Err(no_changes(&format!("{kind:?} is no kind of a row"))),
    };
    kinds.iter().map(is_added).collect()
}

fn no_changes(why: &impl std::fmt::Display) -> Error {
    Error::new(Code::CorruptInput, format!("its changes cannot be followed: {why}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    fn changes(of: &[(&str, i64, i64)]) -> RecordBatch {
        let columns: [(&str, ArrayRef); 3] = [
            ("k", Arc::new(Int64Array::from_iter_values(of.iter().map(|row| row.1)))),
            ("v", Arc::new(Int64Array::from_iter_values(of.iter().map(|row| row.2)))),
            ("row_kind", Arc::new(StringArray::from_iter_values(of.iter().map(|row| row.0)))),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn net(batches: &[&[(&str, i64, i64)]]) -> Result<RowSum> {
        let mut net = Net::default();
        batches.iter().try_for_each(|batch| net.take(&changes(batch)))?;
        net.sum()
    }

    #[test]
    fn what_was_revised_on_the_way_makes_no_difference() {
        let wanted = net(&[&[("+I", 1, 5), ("+I", 2, 7)]]).unwrap();
        assert_eq!(wanted.rows, 2);
        let revised: &[&[_]] =
            &[&[("+I", 1, 4), ("+I", 3, 3)], &[("-U", 1, 4), ("+U", 1, 5)], &[("-D", 3, 3), ("+I", 2, 7)]];
        assert_eq!(net(revised).unwrap(), wanted);
        let other = net(&[&[("+I", 1, 5), ("+I", 2, 8)]]).unwrap();
        assert!(other.rows == 2 && other.hash != wanted.hash);
    }

    #[test]
    fn rows_that_never_were_there_and_kinds_that_are_none_are_told() {
        let refused = |batch: &[(&str, i64, i64)]| net(&[batch]).unwrap_err().code();
        assert_eq!(refused(&[("+I", 1, 4), ("-D", 1, 4), ("-D", 1, 4)]), Code::CorruptInput);
        assert_eq!(refused(&[("+", 1, 4)]), Code::CorruptInput);
    }
}
