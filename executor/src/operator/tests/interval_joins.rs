//! Joins of rows whose times are near against nested loops.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion_expr::col;
use proptest::prelude::*;
use qanat_proto::graph::{IntervalJoinNode, JoinKind};

use super::harness::{
    batch, context, encoded, events, integers, lines, run, schema, shown, sorted, steps, times, timestamp,
};
use super::spilling::Spilling;
use crate::operator::join::IntervalJoin;
use crate::operator::{BoxedOperator, OperatorContext};

/// key, value.
type Row = (Option<i64>, i64);

fn side(prefix: &str) -> SchemaRef {
    let name = |column: &str| format!("{prefix}_{column}");
    schema(&[(&name("k"), DataType::Int64), (&name("v"), DataType::Int64), (&name("t"), timestamp())])
}

fn rows(prefix: &str, rows: &[(i64, Row)]) -> RecordBatch {
    batch(
        &side(prefix),
        vec![
            integers(rows.iter().map(|(_, r)| r.0)),
            integers(rows.iter().map(|(_, r)| Some(r.1))),
            times(rows.iter().map(|(t, _)| Some(*t))),
        ],
    )
}

fn joined(kind: JoinKind) -> SchemaRef {
    let (left, right) = (side("l"), side("r"));
    let fields = left.fields().iter().chain(right.fields());
    let width = if matches!(kind, JoinKind::LeftSemi | JoinKind::LeftAnti) { 3 } else { 6 };
    Arc::new(arrow::datatypes::Schema::new(fields.take(width).cloned().collect::<Vec<_>>()))
}

fn nested_loops(node: &IntervalJoinNode, kept: &[Vec<(i64, Row)>; 2]) -> Vec<String> {
    let show = |(t, row): &(i64, Row)| {
        let key = row.0.map_or_else(|| "-".to_owned(), |k| k.to_string());
        format!("{key}|{}|{}", row.1, shown(*t))
    };
    let pairs = |l: &(i64, Row), r: &(i64, Row)| {
        (node.lower_ms..=node.upper_ms).contains(&(l.0 - r.0))
            && (node.on.is_empty() || l.1.0.is_some() && l.1.0 == r.1.0)
            && (node.filter.is_none() || l.1.1 < r.1.1)
    };
    let [left, right] = kept;
    let (none, kind) = ("-|-|-", node.kind);
    let mut lines = Vec::new();
    for l in left {
        let partners: Vec<_> = right.iter().filter(|r| pairs(l, r)).collect();
        match kind {
            JoinKind::LeftSemi if !partners.is_empty() => lines.push(show(l)),
            JoinKind::LeftAnti if partners.is_empty() => lines.push(show(l)),
            JoinKind::LeftSemi | JoinKind::LeftAnti => {}
            JoinKind::Left | JoinKind::Full if partners.is_empty() => lines.push(format!("{}|{none}", show(l))),
            JoinKind::Inner | JoinKind::Left | JoinKind::Right | JoinKind::Full => {
                lines.extend(partners.into_iter().map(|r| format!("{}|{}", show(l), show(r))));
            }
        }
    }
    if matches!(kind, JoinKind::Right | JoinKind::Full) {
        let lonely = right.iter().filter(|r| !left.iter().any(|l| pairs(l, r)));
        lines.extend(lonely.map(|r| format!("{none}|{}", show(r))));
    }
    sorted(lines)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn rows_meet_those_that_are_near(
        steps in steps(2, (prop::option::weighted(0.9, 0_i64..3), 0_i64..9)),
        kind in prop::sample::select(vec![
            JoinKind::Inner, JoinKind::Left, JoinKind::Right, JoinKind::Full, JoinKind::LeftSemi, JoinKind::LeftAnti,
        ]),
        bounds in prop::sample::select(vec![(-10_i64, 0_i64), (0, 0), (-3, 5), (4, 12), (-12, -4)]),
        has_keys in prop::bool::weighted(0.8),
        has_filter in any::<bool>(),
        lateness in prop::sample::select(vec![0_i64, 6]),
        spills in any::<bool>(),
    ) {
        let both = joined(JoinKind::Inner);
        let on = if has_keys { vec![(0, 0)] } else { Vec::new() };
        let filter = has_filter.then(|| encoded(&col("l_v").lt(col("r_v")), &both));
        let (lower_ms, upper_ms) = bounds;
        let node =
            IntervalJoinNode { kind, on, times: (2, 2), lower_ms, upper_ms, filter, allowed_lateness_ms: lateness };
        let (mut kept, mut late) = ([Vec::new(), Vec::new()], 0);
        let events = events(&steps, |port, given, watermark| {
            let now = watermark.saturating_sub(lateness);
            late += given.iter().filter(|(t, _)| *t < now).count();
            kept[port].extend(given.iter().copied().filter(|(t, _)| *t >= now));
            rows(["l", "r"][port], &given)
        });
        let partition = if has_keys { vec![vec![0], vec![0]] } else { vec![Vec::new(), Vec::new()] };
        let make = |subtask: (u32, u32)| -> BoxedOperator {
            let context = context(vec![side("l"), side("r")], partition.clone(), joined(kind), subtask);
            let join = Box::new(IntervalJoin::new(&node, OperatorContext { spills, ..context }).expect("builds"));
            if spills { Box::new(Spilling::new(join)) } else { join }
        };
        let collected = run(&events, &partition, &make);
        prop_assert_eq!(sorted(lines(&collected.rows)), nested_loops(&node, &kept));
        prop_assert_eq!(collected.late.iter().map(RecordBatch::num_rows).sum::<usize>(), late);
    }
}
