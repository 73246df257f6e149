//! Window joins and lookup joins against nested loops.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion_expr::col;
use proptest::prelude::*;
use qanat_proto::graph::{JoinKind, TimeDomain, WindowJoinNode};

use super::harness::{
    batch, context, encoded, events, finish, integers, lines, run, schema, shown, sorted, steps, times, timestamp,
};
use crate::operator::window_join::WindowJoin;
use crate::operator::{BoxedOperator, Operator, Output};

/// key, value.
type Row = (Option<i64>, i64);

const SIZE: i64 = 10;

fn side(prefix: &str) -> SchemaRef {
    let name = |column: &str| format!("{prefix}_{column}");
    schema(&[
        (&name("k"), DataType::Int64),
        (&name("v"), DataType::Int64),
        (&name("ws"), timestamp()),
        (&name("we"), timestamp()),
    ])
}

fn window_start(t: i64) -> i64 {
    t.div_euclid(SIZE) * SIZE
}

fn rows(prefix: &str, rows: &[(i64, Row)]) -> RecordBatch {
    batch(
        &side(prefix),
        vec![
            integers(rows.iter().map(|(_, r)| r.0)),
            integers(rows.iter().map(|(_, r)| Some(r.1))),
            times(rows.iter().map(|(t, _)| Some(window_start(*t)))),
            times(rows.iter().map(|(t, _)| Some(window_start(*t) + SIZE))),
        ],
    )
}

fn joined(kind: JoinKind) -> SchemaRef {
    let (left, right) = (side("l"), side("r"));
    let fields = left.fields().iter().chain(right.fields());
    let width = if matches!(kind, JoinKind::LeftSemi | JoinKind::LeftAnti) { 4 } else { 8 };
    Arc::new(arrow::datatypes::Schema::new(fields.take(width).cloned().collect::<Vec<_>>()))
}

/// (kept rows of each side with window starts) to the answer.
fn nested_loops(kind: JoinKind, has_keys: bool, has_filter: bool, kept: &[Vec<(i64, Row)>; 2]) -> Vec<String> {
    let show = |(t, row): &(i64, Row)| {
        let key = row.0.map_or_else(|| "-".to_owned(), |k| k.to_string());
        format!("{key}|{}|{}|{}", row.1, shown(window_start(*t)), shown(window_start(*t) + SIZE))
    };
    let pairs = |l: &(i64, Row), r: &(i64, Row)| {
        window_start(l.0) == window_start(r.0)
            && (!has_keys || l.1.0.is_some() && l.1.0 == r.1.0)
            && (!has_filter || l.1.1 < r.1.1)
    };
    let [left, right] = kept;
    let none = "-|-|-|-";
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
        let alone = right.iter().filter(|r| !left.iter().any(|l| pairs(l, r)));
        lines.extend(alone.map(|r| format!("{none}|{}", show(r))));
    }
    sorted(lines)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn window_joins_equal_nested_loops(
        steps in steps(2, (prop::option::weighted(0.8, 0_i64..4), 0_i64..5)),
        kind in prop::sample::select(vec![
            JoinKind::Inner, JoinKind::Left, JoinKind::Right, JoinKind::Full, JoinKind::LeftSemi, JoinKind::LeftAnti,
        ]),
        has_keys in prop::bool::weighted(0.8),
        has_filter in any::<bool>(),
        lateness in 0_i64..12,
    ) {
        let mut kept: [Vec<(i64, Row)>; 2] = [Vec::new(), Vec::new()];
        let events = events(&steps, |port, r, watermark| {
            let open = |t: i64| watermark == i64::MIN || window_start(t) + SIZE + lateness > watermark;
            kept[port].extend(r.iter().filter(|(t, _)| open(*t)).copied());
            rows(["l", "r"][port], &r)
        });
        let both = joined(JoinKind::Inner);
        let node = WindowJoinNode {
            kind,
            on: if has_keys { vec![(0, 0)] } else { vec![] },
            filter: has_filter.then(|| encoded(&col("l_v").lt(col("r_v")), &both)),
            left_window: (2, 3),
            right_window: (2, 3),
            domain: TimeDomain::Event,
            allowed_lateness_ms: lateness,
        };
        let by = if has_keys { vec![0] } else { vec![2, 3] };
        let partition = [by.clone(), by];
        let found = run(&events, &partition, &|subtask| -> BoxedOperator {
            let context = context(vec![side("l"), side("r")], partition.to_vec(), joined(kind), subtask);
            Box::new(WindowJoin::new(&node, context).expect("builds"))
        });
        prop_assert_eq!(sorted(lines(&found.rows)), nested_loops(kind, has_keys, has_filter, &kept));
    }
}

/// Steps of a semi join of `count` rows of one key with as many, whose values are 0, 1, …; a row's partners are
/// those of larger values. And how many rows come out.
fn steps_of_a_semi_join(count: i64, left: impl Fn(i64) -> i64) -> (usize, usize) {
    let node = WindowJoinNode {
        kind: JoinKind::LeftSemi,
        on: vec![(0, 0)],
        filter: Some(encoded(&col("l_v").lt(col("r_v")), &joined(JoinKind::Inner))),
        left_window: (2, 3),
        right_window: (2, 3),
        domain: TimeDomain::Event,
        allowed_lateness_ms: 0,
    };
    let context = context(vec![side("l"), side("r")], vec![vec![0], vec![0]], joined(node.kind), (1, 0));
    let mut join = WindowJoin::new(&node, context).expect("builds");
    let mut out = Output::default();
    let of_key = |value: &dyn Fn(i64) -> i64| (0..count).map(|n| (1, (Some(7), value(n)))).collect::<Vec<_>>();
    join.process(0, rows("l", &of_key(&left)), &mut out).expect("takes");
    join.process(1, rows("r", &of_key(&|n| n)), &mut out).expect("takes");
    join.on_watermark(i64::MAX, &mut out).expect("closes");
    let mut steps = 0;
    while join.resume(&mut out).expect("joins") {
        steps += 1;
    }
    (steps, lines(&out.batches).len())
}

/// A row that soon finds a partner does not look at all the others of its key.
#[test]
fn a_semi_join_of_one_key_ends_with_the_first_partners() {
    let (steps, found) = steps_of_a_semi_join(700, |n| n % 5 - 1);
    assert_eq!(found, 700);
    assert!(steps < 1_000, "{steps} steps of 7 pairs");
    // Nobody finds one: all pairs are looked at, once.
    let (steps, found) = steps_of_a_semi_join(70, |_| 70);
    assert_eq!(found, 0);
    assert!(steps <= 70 * 70 / 7 + 20, "{steps} steps of 7 pairs");
}

mod lookup {
    use std::collections::BTreeMap;

    use qanat_proto::connector::TableDescriptor;
    use qanat_proto::graph::LookupJoinNode;

    use super::*;
    use crate::operator::lookup_join::LookupJoin;
    use crate::operator::{Operator, Output};

    fn table(physical: SchemaRef) -> TableDescriptor {
        TableDescriptor {
            name: "t".to_owned(),
            connector: "filesystem".to_owned(),
            options: BTreeMap::new(),
            physical,
            metadata: vec![],
            primary_key: vec![],
            partitioned_by: vec![],
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn lookups_equal_nested_loops(
            left in prop::collection::vec((prop::option::weighted(0.8, 0_i64..5), 0_i64..5), 0..30),
            right in prop::collection::vec((prop::option::weighted(0.8, 0_i64..5), 0_i64..5), 0..20),
            is_left in any::<bool>(),
            has_filter in any::<bool>(),
        ) {
            let pair = |prefix: &str| {
                schema(&[(&format!("{prefix}_k"), DataType::Int64), (&format!("{prefix}_v"), DataType::Int64)])
            };
            let rows = |schema: &SchemaRef, rows: &[Row]| {
                batch(schema, vec![integers(rows.iter().map(|r| r.0)), integers(rows.iter().map(|r| Some(r.1)))])
            };
            let (l, r) = (pair("l"), pair("r"));
            let fields: Vec<_> = l.fields().iter().chain(r.fields()).cloned().collect();
            let both: SchemaRef = Arc::new(arrow::datatypes::Schema::new(fields));
            let node = LookupJoinNode {
                table: table(Arc::clone(&r)),
                projection: vec![0, 1],
                calc: None,
                right: Arc::clone(&r),
                kind: if is_left { JoinKind::Left } else { JoinKind::Inner },
                on: vec![(0, 0)],
                filter: has_filter.then(|| encoded(&col("l_v").lt(col("r_v")), &both)),
                refresh_ms: None,
            };
            let context = context(vec![Arc::clone(&l)], vec![], Arc::clone(&both), (1, 0));
            let mut join = LookupJoin::new(&node, &context).expect("builds");
            let mut out = Output::default();
            prop_assert!(join.process(0, rows(&l, &left), &mut out).is_err(), "no table yet");
            join.load(1, vec![rows(&r, &right[..right.len() / 2]), rows(&r, &right[right.len() / 2..])], false).expect("loads");
            join.process(0, rows(&l, &left), &mut out).expect("processes");
            finish(&mut join, &mut out);
            let show = |row: &Row| format!("{}|{}", row.0.map_or_else(|| "-".to_owned(), |k| k.to_string()), row.1);
            let mut expected = Vec::new();
            for l in &left {
                let partners = right.iter().filter(|r| l.0.is_some() && l.0 == r.0 && (!has_filter || l.1 < r.1));
                let before = expected.len();
                expected.extend(partners.map(|r| format!("{}|{}", show(l), show(r))));
                if is_left && expected.len() == before {
                    expected.push(format!("{}|-|-", show(l)));
                }
            }
            prop_assert_eq!(lines(&out.batches), expected);
            let counts = join.take_counts();
            prop_assert_eq!(counts.rows_in + counts.expanded, counts.rows_out + counts.filtered);
        }
    }
}
