//! Proves a source against the contract of `contract::Source`: a split list that is stable, positions
//! from which exactly the rest is read again, and a stop flag that is honoured.
//!
//! One call per connector and case, from its tests.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use serde_json::Value;

use crate::contract::{DeadLetter, ReadOutcome, Source, SourceBatch, Split, SplitReader, StopFlag};

/// What one split gave.
pub(crate) struct Drained {
    pub(crate) batches: Vec<SourceBatch>,
    /// It said that it ended; else it had nothing more for now.
    pub(crate) ended: bool,
}

/// Reads a split from `position` until it ends or has nothing for now.
pub(crate) fn drain(source: &dyn Source, split: &Split, position: &Value) -> Drained {
    let mut reader = source.open(split, position).expect("the split opens");
    drain_reader(reader.as_mut())
}

pub(crate) fn drain_reader(reader: &mut dyn SplitReader) -> Drained {
    let stop = StopFlag::default();
    let mut batches = Vec::new();
    loop {
        match reader.next(&stop).expect("the split reads") {
            ReadOutcome::Batch(batch) => {
                let good = batch.rows.num_rows() + batch.dead_letters.len();
                assert!(batch.records >= good as u64, "records count rows and dead letters");
                batches.push(batch);
            }
            ReadOutcome::Pending | ReadOutcome::Away => return Drained { batches, ended: false },
            ReadOutcome::End => return Drained { batches, ended: true },
        }
    }
}

/// All rows in one batch. None: no batch came.
pub(crate) fn rows_of(batches: &[SourceBatch]) -> Option<RecordBatch> {
    let schema = batches.first()?.rows.schema();
    let rows: Vec<&RecordBatch> = batches.iter().map(|b| &b.rows).collect();
    Some(concat_batches(&schema, rows).expect("one schema"))
}

pub(crate) fn dead_letters_of(batches: &[SourceBatch]) -> Vec<DeadLetter> {
    batches.iter().flat_map(|b| b.dead_letters.clone()).collect()
}

/// The whole suite over a source whose rows do not change and hold no wall-clock time.
pub(crate) fn prove(source: &Arc<dyn Source>) {
    let splits = source.discover().expect("splits are found");
    assert_eq!(splits, source.discover().expect("splits are found"), "the split list is stable");
    let mut ids: Vec<_> = splits.iter().map(|s| s.id.clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), splits.len(), "split ids are unique");
    for split in &splits {
        prove_split(source.as_ref(), split);
    }
}

fn prove_split(source: &dyn Source, split: &Split) {
    let whole = drain(source, split, &split.start);
    for (done, batch) in whole.batches.iter().enumerate() {
        let rest = whole.batches.get(done + 1..).unwrap_or_default();
        let again = drain(source, split, &batch.position);
        assert_eq!(again.ended, whole.ended, "split {} from {}", split.id, batch.position);
        let (expected, found) = (rows_of(rest), rows_of(&again.batches));
        let count = |rows: &Option<RecordBatch>| rows.as_ref().map_or(0, RecordBatch::num_rows);
        assert_eq!(count(&expected), count(&found), "rows of split {} after {}", split.id, batch.position);
        if count(&expected) > 0 {
            assert_eq!(expected, found, "rows of split {} after {}", split.id, batch.position);
        }
        assert_eq!(
            dead_letters_of(rest),
            dead_letters_of(&again.batches),
            "dead letters of split {} after {}",
            split.id,
            batch.position
        );
    }
    prove_stop(source, split);
}

/// With the flag set, a reader must return after a bounded piece of work, and lose nothing by it.
fn prove_stop(source: &dyn Source, split: &Split) {
    let whole = drain(source, split, &split.start);
    let mut reader = source.open(split, &split.start).expect("the split opens");
    let mut batches = Vec::new();
    let stop = StopFlag::default();
    stop.set();
    for _ in 0..3 {
        match reader.next(&stop).expect("a stopped reader returns") {
            ReadOutcome::Batch(batch) => batches.push(batch),
            ReadOutcome::Pending => {}
            ReadOutcome::Away | ReadOutcome::End => break,
        }
    }
    let records: u64 = batches.iter().map(|b| b.records).sum();
    let position = batches.last().map_or(&split.start, |b| &b.position);
    let rest: u64 = drain(source, split, position).batches.iter().map(|b| b.records).sum();
    let all: u64 = whole.batches.iter().map(|b| b.records).sum();
    assert_eq!(records + rest, all, "split {}: a stop loses nothing", split.id);
}
