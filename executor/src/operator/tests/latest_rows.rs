//! Rows that keys have become, against a map of them, with memory and without.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int8Array, RecordBatch};
use arrow::datatypes::{DataType, Int8Type, SchemaRef};
use proptest::prelude::*;
use qanat_proto::changelog::{Changelog, RowKind, with_kinds};
use qanat_proto::graph::LatestRowsNode;

use super::harness::{Store, batch, context, finish, integers, lines, schema, spread};
use super::spilling::Spilling;
use crate::operator::latest_rows::LatestRows;
use crate::operator::{BoxedOperator, OperatorContext, Output};

fn columns() -> SchemaRef {
    schema(&[("k", DataType::Int64), ("v", DataType::Int64)])
}

/// What a key becomes: a value, or nothing.
type News = (i64, Option<i64>);

fn rows(news: &[News]) -> RecordBatch {
    let kind = |news: &News| if news.1.is_some() { RowKind::UpdateAfter } else { RowKind::Delete }.code();
    let kinds: ArrayRef = Arc::new(Int8Array::from_iter_values(news.iter().map(kind)));
    let keys = integers(news.iter().map(|news| Some(news.0)));
    batch(&with_kinds(&columns()), vec![keys, integers(news.iter().map(|news| news.1)), kinds])
}

#[derive(Clone, Debug)]
enum Step {
    News(Vec<News>),
    Snapshot,
    Restore(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let news = (0_i64..12, prop::option::weighted(0.7, 0_i64..3));
    prop_oneof![
        6 => prop::collection::vec(news, 1..12).prop_map(Step::News),
        2 => Just(Step::Snapshot),
        1 => (1_u32..4).prop_map(Step::Restore),
    ]
}

fn make(spills: bool, subtask: (u32, u32)) -> BoxedOperator {
    let context = context(vec![with_kinds(&columns())], vec![vec![0]], with_kinds(&columns()), subtask);
    let context = OperatorContext { changelog: Changelog::Retract, spills, ..context };
    let operator = Box::new(LatestRows::new(&LatestRowsNode { key: vec![0] }, context).expect("builds"));
    if spills { Box::new(Spilling::new(operator)) } else { operator }
}

/// Each row that is there, once.
fn apply(told: &mut BTreeMap<String, i64>, out: &Output) {
    for batch in &out.batches {
        let cells = batch.project(&[0, 1]).expect("two columns");
        let kinds = batch.column(2).as_primitive::<Int8Type>();
        for (line, kind) in lines([&cells]).into_iter().zip(kinds.values()) {
            let count = told.entry(line.clone()).or_default();
            *count += if qanat_proto::changelog::is_added(*kind) { 1 } else { -1 };
            assert!((0..=1).contains(count), "{line} is there {count} times");
            if *count == 0 {
                told.remove(&line);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn a_key_has_the_row_that_it_became(steps in prop::collection::vec(step(), 0..24), spills in any::<bool>()) {
        let mut subtasks = vec![make(spills, (1, 0))];
        let (mut store, mut there, mut told) = (Store::default(), BTreeMap::new(), BTreeMap::new());
        let mut saved = (there.clone(), told.clone());
        for step in &steps {
            match step {
                Step::News(news) => {
                    for (index, part) in spread(&rows(news), &[0], subtasks.len() as u32) {
                        let (mut out, operator) = (Output::default(), &mut subtasks[index as usize]);
                        operator.process(0, part, &mut out).expect("processes");
                        finish(operator.as_mut(), &mut out);
                        apply(&mut told, &out);
                    }
                    for (key, value) in news {
                        match value {
                            Some(value) => _ = there.insert(*key, *value),
                            None => _ = there.remove(key),
                        }
                    }
                    let wanted: BTreeMap<String, i64> = there.iter().map(|(k, v)| (format!("{k}|{v}"), 1)).collect();
                    prop_assert_eq!(&told, &wanted);
                }
                Step::Snapshot => {
                    for operator in &mut subtasks {
                        let deltas = operator.snapshot().expect("snapshots");
                        store.apply(operator, deltas);
                    }
                    prop_assert_eq!(store.rows(), there.len());
                    saved = (there.clone(), told.clone());
                }
                // What came since the last snapshot never came.
                Step::Restore(parallelism) => {
                    (there, told) = saved.clone();
                    subtasks = (0..*parallelism).map(|index| make(spills, (*parallelism, index))).collect();
                    for (index, operator) in subtasks.iter_mut().enumerate() {
                        store.restore(operator, (*parallelism, index as u32), None);
                    }
                }
            }
        }
    }
}
