//! Rows of immutable column runs, each owned by one session.

use arrow::array::{Array, ArrayRef};
use arrow::compute::interleave;
use datafusion_common::DataFusionError;

use crate::memory::array_bytes;

/// Position of a row: run and row.
pub(super) type Part = (u32, u32);

/// Runs of columns. A run goes when none of its rows is owned any more.
pub(super) struct PartRuns {
    width: usize,
    /// None: dropped. The number stays taken until the next compaction.
    runs: Vec<Option<Run>>,
    live: usize,
    rows: usize,
    bytes: usize,
}

struct Run {
    columns: Vec<ArrayRef>,
    rows: usize,
    live: usize,
    bytes: usize,
}

impl PartRuns {
    /// `width`: columns of each run.
    pub(super) fn new(width: usize) -> Self {
        Self { width, runs: Vec::new(), live: 0, rows: 0, bytes: 0 }
    }

    /// Adds a run, whose rows are all owned. Returns its number.
    pub(super) fn push(&mut self, columns: Vec<ArrayRef>, rows: usize) -> u32 {
        self.live += rows;
        self.rows += rows;
        let bytes = columns.iter().map(array_bytes).sum();
        self.bytes += bytes;
        self.runs.push(Some(Run { columns, rows, live: rows, bytes }));
        (self.runs.len() - 1) as u32
    }

    /// The columns of some rows, in their order.
    pub(super) fn gather(&self, parts: &[Part]) -> Result<Vec<ArrayRef>, DataFusionError> {
        // Only runs that occur are handed to the kernel.
        let mut used: Vec<u32> = parts.iter().map(|part| part.0).collect();
        used.sort_unstable();
        used.dedup();
        let place = |run: u32| used.binary_search(&run).unwrap_or_default();
        let positions: Vec<(usize, usize)> = parts.iter().map(|(run, row)| (place(*run), *row as usize)).collect();
        let runs: Vec<&Run> = used.iter().filter_map(|run| self.runs[*run as usize].as_ref()).collect();
        (0..self.width)
            .map(|column| {
                let arrays: Vec<&dyn Array> = runs.iter().map(|run| run.columns[column].as_ref()).collect();
                Ok(interleave(&arrays, &positions)?)
            })
            .collect()
    }

    /// Gives rows up.
    pub(super) fn release(&mut self, parts: &[Part]) {
        for (number, _) in parts {
            let slot = &mut self.runs[*number as usize];
            let Some(run) = slot else { continue };
            run.live -= 1;
            self.live -= 1;
            if run.live == 0 {
                self.rows -= run.rows;
                self.bytes -= run.bytes;
                *slot = None;
            }
        }
        if self.live == 0 {
            self.runs.clear();
        }
    }

    /// Whether most rows held are owned by nobody, or runs are many: the owner then gathers all its parts
    /// into [`Self::replace`].
    pub(super) fn is_sparse(&self) -> bool {
        const SPARE_ROWS: usize = 65_536;
        const RUNS_MAX: usize = 4_096;
        self.rows > 2 * self.live + SPARE_ROWS || (self.runs.len() > RUNS_MAX && self.rows < self.runs.len() * 256)
    }

    /// Forgets all runs but a new one with these rows.
    pub(super) fn replace(&mut self, columns: Vec<ArrayRef>, rows: usize) {
        self.runs.clear();
        (self.live, self.rows, self.bytes) = (0, 0, 0);
        if rows > 0 {
            self.push(columns, rows);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.live * size_of::<Part>()
    }
}
