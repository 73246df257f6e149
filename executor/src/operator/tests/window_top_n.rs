//! Window Top-N against a sort.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion_expr::col;
use proptest::prelude::*;
use qanat_proto::graph::{RankFunction, SortKey, TimeDomain, WindowTopNNode};

use super::harness::{
    batch, context, encoded, events, finish, integers, lines, run, schema, shown, sorted, steps, times, timestamp,
};
use crate::operator::window_top_n::WindowTopN;
use crate::operator::{BoxedOperator, Operator, Output};

/// partition, order.
type Row = (i64, Option<i64>);

const SIZE: i64 = 10;

fn input() -> SchemaRef {
    schema(&[
        ("p", DataType::Int64),
        ("o", DataType::Int64),
        ("id", DataType::Int64),
        ("ws", timestamp()),
        ("we", timestamp()),
    ])
}

fn output() -> SchemaRef {
    let fields = input();
    let fields = fields.fields().iter().map(|f| (f.name().as_str(), f.data_type().clone()));
    schema(&fields.chain([("rn", DataType::Int64)]).collect::<Vec<_>>())
}

fn rows(rows: &[(i64, Row)], first_id: i64) -> RecordBatch {
    let start = |t: i64| t.div_euclid(SIZE) * SIZE;
    batch(
        &input(),
        vec![
            integers(rows.iter().map(|(_, r)| Some(r.0))),
            integers(rows.iter().map(|(_, r)| r.1)),
            integers((first_id..).take(rows.len()).map(Some)),
            times(rows.iter().map(|(t, _)| Some(start(*t)))),
            times(rows.iter().map(|(t, _)| Some(start(*t) + SIZE))),
        ],
    )
}

fn node(function: RankFunction, descending: bool, nulls_first: bool, limit: usize, skip: usize) -> WindowTopNNode {
    WindowTopNNode {
        window: (3, 4),
        domain: TimeDomain::Event,
        function,
        partition_by: vec![0],
        order_by: vec![SortKey { expr: encoded(&col("o"), &input()), descending, nulls_first }],
        limit,
        skip,
        rank_column: Some("rn".to_owned()),
        allowed_lateness_ms: 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_first_rows_are_those_of_a_sort(
        steps in steps(1, (0_i64..4, prop::option::weighted(0.8, 0_i64..6))),
        function in prop::sample::select(vec![RankFunction::RowNumber, RankFunction::Rank, RankFunction::DenseRank]),
        descending in any::<bool>(),
        nulls_first in any::<bool>(),
        limit in 1_usize..5,
        skip in 0_usize..2,
    ) {
        let mut groups: BTreeMap<(i64, i64), Vec<(Row, i64)>> = BTreeMap::new();
        let mut id = 0;
        let events = events(&steps, |_, r, watermark| {
            let batch = rows(&r, id);
            for (t, row) in &r {
                let start = t.div_euclid(SIZE) * SIZE;
                if watermark == i64::MIN || start + SIZE > watermark {
                    groups.entry((start, row.0)).or_default().push((*row, id));
                }
                id += 1;
            }
            batch
        });
        let mut expected = Vec::new();
        for ((start, partition), mut rows) in groups {
            rows.sort_by_key(|((_, order), id)| {
                let by_value = order.map(|o| if descending { -o } else { o });
                (order.is_none() != nulls_first, by_value, *id)
            });
            for (at, ((_, order), id)) in rows.iter().enumerate() {
                let before: Vec<Option<i64>> = rows[..at].iter().map(|row| row.0.1).filter(|other| other != order).collect();
                let rank = 1 + match function {
                    RankFunction::RowNumber => at,
                    RankFunction::Rank => before.len(),
                    RankFunction::DenseRank => before.into_iter().collect::<BTreeSet<_>>().len(),
                };
                if rank > limit || rank <= skip {
                    continue;
                }
                let order = order.map_or_else(|| "-".to_owned(), |o| o.to_string());
                expected.push(format!("{partition}|{order}|{id}|{}|{}|{rank}", shown(start), shown(start + SIZE)));
            }
        }
        let node = node(function, descending, nulls_first, limit, skip);
        let partition = vec![vec![0, 3, 4]];
        let found = run(&events, &partition, &|subtask| -> BoxedOperator {
            let context = context(vec![input()], partition.clone(), output(), subtask);
            Box::new(WindowTopN::new(&node, context).expect("builds"))
        });
        prop_assert_eq!(sorted(lines(&found.rows)), sorted(expected));
    }
}

#[test]
fn rows_that_cannot_win_are_thrown_away() {
    let context = context(vec![input()], vec![vec![0]], output(), (1, 0));
    let mut top = WindowTopN::new(&node(RankFunction::RowNumber, true, false, 2, 0), context).expect("builds");
    let mut out = Output::default();
    for batch in 0..30 {
        let many: Vec<(i64, Row)> = (0..1_000).map(|i| (5, (i % 3, Some(batch * 1_000 + i)))).collect();
        top.process(0, rows(&many, batch * 1_000), &mut out).expect("processes");
    }
    let kept: usize = top.snapshot().expect("snapshots")[0].upserts.iter().map(RecordBatch::num_rows).sum();
    assert!(kept < 10_000, "{kept} rows are kept for 6 answers");
    top.on_watermark(10, &mut out).expect("fires");
    finish(&mut top, &mut out);
    assert_eq!(out.batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 6);
    assert!(lines(&out.batches).iter().any(|line| line.contains("|29999|")));
}
