//! An operator without memory: after each call it is asked to put something aside, much or little.

use arrow::array::RecordBatch;
use qanat_proto::error::Result;
use qanat_proto::receipt::OperatorCounts;
use qanat_storage::env::Env;
use qanat_storage::spill::{Space, Store};
use qanat_storage::state::{TableDelta, TableSpec};

use crate::operator::{BoxedOperator, Operator, Output};

pub(super) struct Spilling {
    inner: BoxedOperator,
    space: Space,
    /// Saved within the epoch.
    deltas: Vec<TableDelta>,
    turn: usize,
    put: usize,
    brought: usize,
}

impl Spilling {
    pub(super) fn new(inner: BoxedOperator) -> Self {
        let store = Store::new(&Env::sim(1).env, "/spill");
        let space = store.space().expect("opens");
        Self { inner, space, deltas: Vec::new(), turn: 0, put: 0, brought: 0 }
    }

    /// What a chain does behind a call.
    fn settle(&mut self, out: &mut Output) -> Result<()> {
        loop {
            self.serve()?;
            if !self.inner.resume(out)? {
                break;
            }
        }
        self.inner.flush(out)?;
        self.deltas.extend(self.inner.snapshot()?);
        self.put_aside()
    }

    fn serve(&mut self) -> Result<()> {
        if let Some(keys) = self.inner.wanted() {
            let found = self.space.read(&keys)?;
            self.brought += found.len();
            self.inner.bring_back(&found)?;
        }
        Ok(())
    }

    fn put_aside(&mut self) -> Result<()> {
        self.turn += 1;
        let entries = self.inner.put_aside([0, usize::MAX >> 1, 600, 0][self.turn % 4])?;
        self.put += entries.len();
        self.space.write(&entries)
    }
}

impl Operator for Spilling {
    fn process(&mut self, port: usize, rows: RecordBatch, out: &mut Output) -> Result<()> {
        self.inner.process(port, rows, out)?;
        self.settle(out)
    }

    fn on_watermark(&mut self, watermark: i64, out: &mut Output) -> Result<i64> {
        let passed = self.inner.on_watermark(watermark, out)?;
        self.settle(out)?;
        Ok(passed)
    }

    fn on_processing_time(&mut self, now_ms: i64, out: &mut Output) -> Result<()> {
        self.inner.on_processing_time(now_ms, out)?;
        self.settle(out)
    }

    fn next_timer(&self) -> Option<i64> {
        self.inner.next_timer()
    }

    fn flush(&mut self, out: &mut Output) -> Result<()> {
        self.inner.flush(out)
    }

    fn tables(&self) -> Vec<TableSpec> {
        self.inner.tables()
    }

    fn snapshot(&mut self) -> Result<Vec<TableDelta>> {
        let mut deltas = std::mem::take(&mut self.deltas);
        deltas.extend(self.inner.snapshot()?);
        Ok(deltas)
    }

    fn restore(&mut self, table: &str, rows: RecordBatch) -> Result<()> {
        self.inner.restore(table, rows)?;
        self.serve()?;
        self.inner.resume(&mut Output::default())?;
        self.put_aside()
    }

    fn restored(&mut self, watermark: Option<i64>) -> Result<()> {
        self.inner.restored(watermark)
    }

    fn take_counts(&mut self) -> OperatorCounts {
        self.inner.take_counts()
    }
}

impl Drop for Spilling {
    fn drop(&mut self) {
        // What was put aside is not what nobody ever asks for: the longer trials bring some of it back.
        assert!(std::thread::panicking() || self.put < 400 || self.brought > 0, "{} entries, none read", self.put);
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;
    use datafusion_expr::{col, lit};
    use qanat_proto::changelog::{Changelog, with_kinds};
    use qanat_proto::graph::{
        AggregateCall, GroupAggregateNode, JoinKind, JoinNode, LatestRowsNode, RankFunction, Ties, TopNNode,
    };

    use super::super::harness::{batch, context, encoded, integers, lines, schema, sorted};
    use super::*;
    use crate::operator::OperatorContext;
    use crate::operator::group::GroupAggregate;
    use crate::operator::join::Join;
    use crate::operator::latest_rows::LatestRows;
    use crate::operator::top_n::{FirstRows, TopN};

    const KEYS: i64 = 20_000;

    fn rows(keys: impl Iterator<Item = i64> + Clone) -> RecordBatch {
        let columns = schema(&[("k", DataType::Int64), ("v", DataType::Int64)]);
        batch(&columns, vec![integers(keys.clone().map(Some)), integers(keys.map(|key| Some(key % 7)))])
    }

    fn flushed(operator: &mut BoxedOperator) -> Vec<String> {
        let mut out = Output::default();
        operator.flush(&mut out).expect("flushes");
        lines(&out.batches)
    }

    /// Gives an operator many keys, has all of them put aside, and gives it those of `probe`: it wants `wanted` of them, and
    /// says what it would have said with all of them in memory.
    fn check(make: impl Fn(bool) -> BoxedOperator, keys: &RecordBatch, probe: (usize, &RecordBatch), wanted: usize) {
        let [mut spilling, mut other] = [true, false].map(make);
        let store = Store::new(&Env::sim(1).env, "/spill");
        let space = store.space().expect("opens");
        for operator in [&mut spilling, &mut other] {
            operator.process(0, keys.clone(), &mut Output::default()).expect("processes");
            while operator.resume(&mut Output::default()).expect("goes on") {}
            flushed(operator);
            operator.snapshot().expect("snapshots");
        }
        let before = spilling.state_bytes();
        space.write(&spilling.put_aside(usize::MAX).expect("puts aside")).expect("writes");
        let left = spilling.state_bytes();
        assert!(left * 6 < before, "{left} of {before} bytes are left");
        assert!(other.put_aside(usize::MAX).expect("nothing").is_empty());
        let mut said = Vec::new();
        for operator in [&mut spilling, &mut other] {
            let mut out = Output::default();
            operator.process(probe.0, probe.1.clone(), &mut out).expect("processes");
            let keys = operator.wanted();
            assert_eq!(
                keys.as_ref().map_or(0, qanat_storage::spill::Keys::len),
                if said.is_empty() { wanted } else { 0 }
            );
            if let Some(keys) = keys {
                let found = space.read(&keys).expect("reads");
                operator.bring_back(&found).expect("takes back");
            }
            while operator.resume(&mut out).expect("goes on") {}
            let mut told = lines(&out.batches);
            told.extend(flushed(operator));
            said.push(sorted(told));
        }
        assert_eq!(said[0], said[1]);
        assert!(!said[0].is_empty());
        // However often all of it goes and comes, it takes the same.
        spilling.snapshot().expect("snapshots");
        let mut all = qanat_storage::spill::Keys::default();
        let mut taken = Vec::new();
        for _ in 0..4 {
            let entries = spilling.put_aside(usize::MAX).expect("puts aside");
            entries.iter().filter(|(_, value)| value.is_some()).for_each(|(key, _)| all.push(key));
            space.write(&entries).expect("writes");
            let mut keys = std::collections::BTreeSet::new();
            let mut once = qanat_storage::spill::Keys::default();
            all.iter().filter(|key| keys.insert(key.to_vec())).for_each(|key| once.push(key));
            spilling.bring_back(&space.read(&once).expect("reads")).expect("takes back");
            taken.push(spilling.state_bytes());
        }
        assert!(taken[3] * 10 <= taken[1] * 11, "{taken:?} bytes");
    }

    fn of_input(output: arrow::datatypes::SchemaRef, spills: bool, inputs: usize, keys: Vec<usize>) -> OperatorContext {
        let input = rows(std::iter::empty()).schema();
        let context = context(vec![input; inputs], vec![keys; inputs], output, (1, 0));
        OperatorContext { changelog: Changelog::Retract, spills, ..context }
    }

    #[test]
    fn keys_leave_memory_and_only_those_that_are_needed_come_back() {
        let (keys, probe) = (rows(0..KEYS), rows((KEYS - 3..KEYS + 2).chain([5, 5])));
        let columns = keys.schema();
        let of_k_and_v = |extra: &[(&str, DataType)]| {
            let mut fields = vec![("k", DataType::Int64), ("v", DataType::Int64)];
            fields.extend_from_slice(extra);
            schema(&fields)
        };
        let joined = of_k_and_v(&[("k2", DataType::Int64), ("v2", DataType::Int64)]);
        let join = |spills| -> BoxedOperator {
            let node = JoinNode { kind: JoinKind::Inner, on: vec![(0, 0)], null_equals_null: false, filter: None };
            Box::new(Join::new(&node, of_input(joined.clone(), spills, 2, vec![0])).expect("builds"))
        };
        // Two keys are new, which only the store can tell.
        check(join, &keys, (1, &probe), 6);
        let top = |limit: usize, order_by| TopNNode {
            function: RankFunction::RowNumber,
            partition_by: vec![0],
            order_by,
            skip: 0,
            limit,
            rank_column: None,
            ties: Ties::Oldest,
            mini_batch_ms: 100,
        };
        let first = |spills| -> BoxedOperator {
            let context = of_input(columns.clone(), spills, 1, vec![0]);
            Box::new(FirstRows::new(&top(1, Vec::new()), context).expect("builds"))
        };
        check(first, &keys, (0, &probe), 6);
        let largest =
            qanat_proto::graph::SortKey { expr: encoded(&col("v"), &columns), descending: true, nulls_first: false };
        let top_n = |spills| -> BoxedOperator {
            let context = of_input(with_kinds(&columns), spills, 1, vec![0]);
            Box::new(TopN::new(&top(2, vec![largest.clone()]), context).expect("builds"))
        };
        check(top_n, &keys, (0, &probe), 6);
        let with_kind = |rows: &RecordBatch, kind: i8| {
            let kinds = arrow::array::Int8Array::from_value(kind, rows.num_rows());
            let columns = rows.columns().iter().cloned().chain([std::sync::Arc::new(kinds) as _]);
            batch(&with_kinds(&rows.schema()), columns.collect())
        };
        let latest = |spills| -> BoxedOperator {
            let context = of_input(with_kinds(&columns), spills, 1, vec![0]);
            let inputs = vec![with_kinds(&columns)];
            Box::new(
                LatestRows::new(&LatestRowsNode { key: vec![0] }, OperatorContext { inputs, ..context })
                    .expect("builds"),
            )
        };
        let gone = qanat_proto::changelog::RowKind::Delete.code();
        let came = qanat_proto::changelog::RowKind::UpdateAfter.code();
        check(latest, &with_kind(&keys, came), (0, &with_kind(&probe, gone)), 6);
        let call = |function: &str, distinct: bool| AggregateCall {
            name: function.to_owned(),
            function: function.to_owned(),
            args: vec![encoded(&col("k"), &columns)],
            distinct,
            filter: None,
            order_by: Vec::new(),
            ignore_nulls: false,
        };
        for (by, wanted) in [(vec![0], 12), (vec![], 6)] {
            let mut fields = if by.is_empty() { vec![] } else { vec![("k", DataType::Int64)] };
            fields.extend([("n", DataType::Int64), ("s", DataType::Int64), ("a", DataType::Boolean)]);
            let output = with_kinds(&schema(&fields));
            let groups = |spills| -> BoxedOperator {
                // The last one is of DataFusion's accumulators, one for each group.
                let is_large = vec![encoded(&col("k").gt(lit(1_i64)), &columns)];
                let of_each = AggregateCall { args: is_large, ..call("bool_and", false) };
                let aggregates = vec![call("count", true), call("sum", false), of_each];
                let node = GroupAggregateNode { keys: by.clone(), aggregates, mini_batch_ms: 100, windows: None };
                let context = of_input(output.clone(), spills, 1, by.clone());
                Box::new(GroupAggregate::new(&node, context).expect("builds"))
            };
            // Groups and their values; without a key the values alone.
            check(groups, &keys, (0, &probe), wanted);
        }
    }
}
