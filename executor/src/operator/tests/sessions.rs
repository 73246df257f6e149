//! Session windows against merging a sorted list.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion_expr::col;
use proptest::prelude::*;
use qanat_executor_core::session::{Placement, SessionRule, SessionSet};
use qanat_proto::graph::{
    AggregateCall, AssignWindowNode, Firing, TimeDomain, WindowAggregateNode, WindowColumn, WindowShape, WindowSource,
};

use super::harness::{
    Event, batch, context, encoded, events, integers, lines, run, schema, shown, sorted, steps, times, timestamp,
};
use crate::operator::BoxedOperator;
use crate::operator::aggregate::session::{SessionAggregate, SessionWindow};

/// key, value.
type Row = (Option<i64>, i64);

/// key, start, end, and (time, value) of its rows.
type Session = (Option<i64>, i64, i64, Vec<(i64, i64)>);

fn input() -> SchemaRef {
    schema(&[("k", DataType::Int64), ("v", DataType::Int64), ("t", timestamp())])
}

fn rows(rows: &[(i64, Row)]) -> RecordBatch {
    batch(
        &input(),
        vec![
            integers(rows.iter().map(|(_, r)| r.0)),
            integers(rows.iter().map(|(_, r)| Some(r.1))),
            times(rows.iter().map(|(t, _)| Some(*t))),
        ],
    )
}

/// Which rows are late is decided by the rule of the core, one set per key that is never dropped; the
/// sessions of the others are found by sorting.
struct Oracle {
    rule: SessionRule,
    gap: i64,
    sets: BTreeMap<Option<i64>, SessionSet>,
    kept: BTreeMap<Option<i64>, Vec<(i64, i64)>>,
    late: usize,
}

impl Oracle {
    fn new(gap: i64, lateness: i64) -> Self {
        let rule = SessionRule::new(gap, lateness).expect("valid");
        Self { rule, gap, sets: BTreeMap::new(), kept: BTreeMap::new(), late: 0 }
    }

    fn take(&mut self, t: i64, (key, value): Row, watermark: i64) {
        let rule = self.rule;
        let set = self.sets.entry(key).or_insert_with(|| SessionSet::new(&rule, watermark));
        set.close(&rule, watermark);
        if set.insert(t, &rule, watermark) == Placement::Late {
            self.late += 1;
        } else {
            self.kept.entry(key).or_default().push((t, value));
        }
    }

    /// key, start, end and rows of each session.
    fn sessions(&self) -> Vec<Session> {
        let mut sessions: Vec<Session> = Vec::new();
        for (key, rows) in &self.kept {
            let mut rows = rows.clone();
            rows.sort_unstable();
            for (t, value) in rows {
                match sessions.last_mut() {
                    Some((k, _, end, rows)) if k == key && t <= *end => {
                        *end = t + self.gap;
                        rows.push((t, value));
                    }
                    _ => sessions.push((*key, t, t + self.gap, vec![(t, value)])),
                }
            }
        }
        sessions
    }
}

fn history(oracle: &mut Oracle, steps: &[super::harness::Step<Row>]) -> Vec<Event> {
    events(steps, |_, r, watermark| {
        r.iter().for_each(|(t, row)| oracle.take(*t, *row, watermark));
        rows(&r)
    })
}

fn row() -> impl Strategy<Value = Row> {
    (prop::option::weighted(0.9, 0_i64..4), -5_i64..5)
}

fn show_key(key: Option<i64>) -> String {
    key.map_or_else(|| "-".to_owned(), |k| k.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn session_aggregates_equal_the_batch_answer(steps in steps(1, row()), gap in 1_i64..9, lateness in 0_i64..9) {
        let mut oracle = Oracle::new(gap, lateness);
        let events = history(&mut oracle, &steps);
        let call = |name: &str, function: &str| AggregateCall {
            name: name.to_owned(),
            function: function.to_owned(),
            args: vec![encoded(&col("v"), &input())],
            distinct: false,
            filter: None,
            order_by: vec![],
            ignore_nulls: false,
        };
        let node = WindowAggregateNode {
            window: WindowSource::Function {
                shape: WindowShape::Session { gap },
                domain: TimeDomain::Event,
                time_column: 2,
            },
            keys: vec![0],
            aggregates: vec![call("n", "count"), call("s", "sum"), call("m", "max")],
            window_columns: vec![WindowColumn::Start, WindowColumn::End],
            allowed_lateness_ms: lateness,
            firing: Firing::Complete,
        };
        let output = schema(&[
            ("k", DataType::Int64), ("n", DataType::Int64), ("s", DataType::Int64), ("m", DataType::Int64),
            ("window_start", timestamp()), ("window_end", timestamp()),
        ]);
        let found = run(&events, &[vec![0]], &|subtask| -> BoxedOperator {
            let context = context(vec![input()], vec![vec![0]], output.clone(), subtask);
            Box::new(SessionAggregate::new(&node, gap, 2, TimeDomain::Event, context).expect("builds"))
        });
        let line = |(key, start, end, rows): Session| {
            let values: Vec<i64> = rows.iter().map(|(_, v)| *v).collect();
            let max = values.iter().max().copied().unwrap_or_default();
            let sum = values.iter().sum::<i64>();
            format!("{}|{}|{sum}|{max}|{}|{}", show_key(key), values.len(), shown(start), shown(end))
        };
        let expected = oracle.sessions().into_iter().map(line).collect();
        prop_assert_eq!(sorted(lines(&found.rows)), sorted(expected));
        prop_assert_eq!(found.late.iter().map(RecordBatch::num_rows).sum::<usize>(), oracle.late);
    }

    #[test]
    fn session_windows_give_each_row_its_session(steps in steps(1, row()), gap in 1_i64..9, lateness in 0_i64..9) {
        let mut oracle = Oracle::new(gap, lateness);
        let events = history(&mut oracle, &steps);
        let node = AssignWindowNode {
            shape: WindowShape::Session { gap },
            domain: TimeDomain::Event,
            time_column: 2,
            partition_by: vec![0],
            allowed_lateness_ms: lateness,
            firing: Firing::Complete,
        };
        let output = schema(&[
            ("k", DataType::Int64), ("v", DataType::Int64), ("t", timestamp()),
            ("window_start", timestamp()), ("window_end", timestamp()), ("window_time", timestamp()),
        ]);
        let found = run(&events, &[vec![0]], &|subtask| -> BoxedOperator {
            let mut context = context(vec![input()], vec![vec![0]], output.clone(), subtask);
            context.batch_rows = 7;
            Box::new(SessionWindow::new(&node, gap, context).expect("builds"))
        });
        let mut expected = Vec::new();
        for (key, start, end, rows) in oracle.sessions() {
            let window = [start, end, end - 1].map(shown).join("|");
            expected.extend(rows.iter().map(|(t, v)| format!("{}|{v}|{}|{window}", show_key(key), shown(*t))));
        }
        prop_assert_eq!(sorted(lines(&found.rows)), sorted(expected));
        prop_assert_eq!(found.late.iter().map(RecordBatch::num_rows).sum::<usize>(), oracle.late);
    }
}
