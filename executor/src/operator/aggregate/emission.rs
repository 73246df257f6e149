//! A window that fires, put out a batch at a time. Of a table of records neither rows nor columns are ever
//! all there at once; DataFusion's accumulators give theirs whole.

use std::ops::Range;

use qanat_executor_core::window::Window;
use qanat_proto::error::Result;

use super::calls::Calls;
use super::integer::IntegerTable;
use super::shared::Shared;
use super::slice_table::{Results, SliceTable};

pub(crate) struct Emission {
    pub(crate) window: Window,
    groups: Groups,
    /// The first group that is not put out.
    next: usize,
}

/// Where the groups of the window are.
pub(crate) enum Groups {
    /// In [`Shared::Running`], which must not advance before they are put out.
    Running,
    Integer(IntegerTable),
    Finished {
        results: Results,
        bytes: usize,
    },
}

impl Groups {
    pub(crate) fn of(table: SliceTable) -> Result<Self> {
        match table {
            SliceTable::Integer(table) => Ok(Self::Integer(table)),
            SliceTable::General(table) => {
                let bytes = table.bytes();
                Ok(Self::Finished { results: table.finish()?, bytes })
            }
        }
    }
}

impl Emission {
    pub(crate) fn new(window: Window, groups: Groups) -> Self {
        Self { window, groups, next: 0 }
    }

    /// Bytes that are held for it alone.
    pub(crate) fn bytes(&self) -> usize {
        match &self.groups {
            Groups::Running => 0,
            Groups::Integer(table) => table.bytes(),
            Groups::Finished { bytes, .. } => *bytes,
        }
    }

    /// Keys and results of the next groups, `most` at most; None at the end.
    pub(crate) fn next(&mut self, most: usize, shared: &Shared, calls: &Calls) -> Result<Option<Results>> {
        let next = |total: usize| self.next..total.min(self.next + most);
        let (groups, results) = match (&self.groups, shared) {
            (Groups::Running, Shared::Running(running)) => {
                let groups = next(running.len());
                (groups.clone(), running.results(calls, groups)?)
            }
            // Nothing runs where windows do not overlap.
            (Groups::Running, Shared::Sliding(_)) => return Ok(None),
            (Groups::Integer(table), _) => {
                let groups = next(table.len());
                (groups.clone(), table.results(groups)?)
            }
            (Groups::Finished { results, .. }, _) => {
                let groups = next(results.rows);
                (groups.clone(), results.slice(&groups))
            }
        };
        self.next = groups.end;
        Ok((!groups.is_empty()).then_some(results))
    }
}

impl Results {
    fn slice(&self, groups: &Range<usize>) -> Self {
        let slice = |columns: &[arrow::array::ArrayRef]| {
            columns.iter().map(|column| column.slice(groups.start, groups.len())).collect()
        };
        Self { keys: slice(&self.keys), values: slice(&self.values), rows: groups.len() }
    }
}
