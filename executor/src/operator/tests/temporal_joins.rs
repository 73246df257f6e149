//! Joins with the versions of a table against the history of each key, gone through row by row.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int8Array, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion_expr::col;
use proptest::prelude::*;
use qanat_proto::changelog::{RowKind, with_kinds};
use qanat_proto::graph::{JoinKind, TemporalJoinNode};

use super::harness::{
    batch, context, encoded, events, integers, lines, run, schema, shown, sorted, steps, times, timestamp,
};
use crate::operator::BoxedOperator;
use crate::operator::join::TemporalJoin;

/// key, value; of the right side, whether it is there. One that is not may say what a row was before it was replaced.
type Row = (Option<i64>, i64, bool);

fn side(prefix: &str) -> SchemaRef {
    let name = |column: &str| format!("{prefix}_{column}");
    schema(&[(&name("k"), DataType::Int64), (&name("v"), DataType::Int64), (&name("t"), timestamp())])
}

fn kind_of((_, value, is_there): &Row, ends_by_key: bool) -> RowKind {
    match is_there {
        true => RowKind::Insert,
        false if !ends_by_key && value % 3 == 0 => RowKind::UpdateBefore,
        false => RowKind::Delete,
    }
}

fn rows(port: usize, rows: &[(i64, Row)], ends_by_key: bool) -> RecordBatch {
    let has_time = |row: &Row| port == 0 || !ends_by_key || row.2;
    let mut columns: Vec<ArrayRef> = vec![
        integers(rows.iter().map(|(_, r)| r.0)),
        integers(rows.iter().map(|(_, r)| Some(r.1))),
        times(rows.iter().map(|(t, row)| has_time(row).then_some(*t))),
    ];
    if port == 0 {
        return batch(&side("l"), columns);
    }
    columns.push(Arc::new(Int8Array::from_iter_values(rows.iter().map(|(_, r)| kind_of(r, ends_by_key).code()))));
    batch(&with_kinds(&side("r")), columns)
}

fn joined() -> SchemaRef {
    let (left, right) = (side("l"), side("r"));
    Arc::new(arrow::datatypes::Schema::new(left.fields().iter().chain(right.fields()).cloned().collect::<Vec<_>>()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn rows_meet_the_version_of_their_time(
        steps in steps(2, (prop::option::weighted(0.9, 0_i64..3), 0_i64..9, prop::bool::weighted(0.8))),
        kind in prop::sample::select(vec![JoinKind::Inner, JoinKind::Left]),
        has_filter in any::<bool>(),
        ends_by_key in any::<bool>(),
    ) {
        let filter = has_filter.then(|| encoded(&col("l_v").lt(col("r_v")), &joined()));
        let node = TemporalJoinNode { kind, on: vec![(0, 0)], times: (2, 2), filter, ends_by_key };
        // By key: what holds from which time on, by now; and the rows that wait, in the order of their times.
        let mut history: BTreeMap<i64, BTreeMap<i64, Row>> = BTreeMap::new();
        let mut waiting: Vec<(i64, Row)> = Vec::new();
        let mut wanted = Vec::new();
        let mut told = |history: &BTreeMap<i64, BTreeMap<i64, Row>>, (t, row): (i64, Row)| {
            let show = |t: i64, row: Row| {
                format!("{}|{}|{}", row.0.map_or_else(|| "-".to_owned(), |k| k.to_string()), row.1, shown(t))
            };
            let version = row.0.and_then(|k| history.get(&k)?.range(..=t).next_back());
            let version = version.filter(|(_, of)| of.2 && (!has_filter || row.1 < of.1));
            match version {
                Some((since, of)) => wanted.push(format!("{}|{}", show(t, row), show(*since, *of))),
                None if kind == JoinKind::Left => wanted.push(format!("{}|-|-|-", show(t, row))),
                None => {}
            }
        };
        let mut now = i64::MIN;
        let events = events(&steps, |port, given, watermark| {
            if watermark > now {
                now = watermark;
                let (passed, rest) = waiting.drain(..).partition(|(t, _)| *t < now);
                let passed: Vec<(i64, Row)> = passed;
                waiting = rest;
                passed.into_iter().for_each(|row| told(&history, row));
                // Of what is behind the watermark the last holds, and an end leaves nothing.
                for versions in history.values_mut() {
                    let last = versions.range(..=now).next_back().map(|(t, row)| (*t, row.2));
                    versions.retain(|t, _| *t > now || last == Some((*t, true)));
                }
            }
            for (t, row) in &given {
                if port == 0 && *t >= watermark {
                    waiting.push((*t, *row));
                }
            }
            if port == 1 {
                // Whether one is late is asked before the batch is taken.
                let is_late = |(t, row): &(i64, Row)| {
                    // It says nothing.
                    if kind_of(row, ends_by_key) == RowKind::UpdateBefore {
                        return false;
                    }
                    let newest = row.0.and_then(|k| history.get(&k)?.keys().next_back().copied());
                    *t < watermark && newest.is_some_and(|newest| *t < newest)
                };
                let is_end = |row: &Row| ends_by_key && !row.2;
                let taken: Vec<(i64, Row)> =
                    given.iter().filter(|row| is_end(&row.1) || !is_late(row)).copied().collect();
                for (t, row) in taken {
                    let Some(versions) = row.0.map(|k| history.entry(k).or_default()) else { continue };
                    if is_end(&row) {
                        if let Some(mut newest) = versions.last_entry() {
                            newest.get_mut().2 = false;
                        }
                    } else if kind_of(&row, ends_by_key) != RowKind::UpdateBefore {
                        versions.insert(t, row);
                    }
                }
                for versions in history.values_mut() {
                    let last = versions.range(..=watermark).next_back().map(|(t, row)| (*t, row.2));
                    versions.retain(|t, _| *t > watermark || last == Some((*t, true)));
                }
            }
            rows(port, &given, ends_by_key)
        });
        waiting.drain(..).for_each(|row| told(&history, row));
        let partition = vec![vec![0], vec![0]];
        let make = |subtask: (u32, u32)| -> BoxedOperator {
            let context = context(vec![side("l"), with_kinds(&side("r"))], partition.clone(), joined(), subtask);
            Box::new(TemporalJoin::new(&node, context).expect("builds"))
        };
        let collected = run(&events, &partition, &make);
        prop_assert_eq!(sorted(lines(&collected.rows)), sorted(wanted));
    }
}
