//! Rows with kinds, out of records that each tell of one change. Stateless.
//!
//! The form is Debezium's: `before`, `after` and `op`, which is `c` (a new row), `r` (a row that a first copy found), `u`
//! (a row that is another now) or `d` (a row that is gone). What is none of these is a dead letter: a change that is left
//! out quietly would make every answer behind it wrong.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int8Array, RecordBatch, StringArray, StructArray, UInt32Array};
use arrow::compute::{interleave, take, take_record_batch};
use qanat_proto::changelog::RowKind;
use qanat_proto::error::{Error, Result};
use qanat_proto::graph::ChangesNode;
use qanat_proto::receipt::OperatorCounts;

use super::emit::Emitter;
use super::evaluate::internal;
use super::{DeadRows, Operator, OperatorContext, Output};

/// How the reason of dead letters begins that tell of no change; what is wrong follows.
pub const REASON_CHANGE: &str = "change";

const BEFORE: usize = 0;
const AFTER: usize = 1;

pub struct Changes {
    node: ChangesNode,
    emitter: Emitter,
    counts: OperatorCounts,
}

/// A batch of records, by what is in it.
struct Records<'r> {
    ops: &'r StringArray,
    /// The rows as they were and as they are.
    rows: [&'r StructArray; 2],
    /// Columns that belong to the records.
    others: &'r [ArrayRef],
    /// Of the rows, columns that may not be NULL, with their names.
    required: Vec<(usize, &'r str)>,
}

impl Changes {
    pub fn new(node: &ChangesNode, context: OperatorContext) -> Self {
        let emitter = Emitter::new(Arc::clone(&context.output), context.batch_rows);
        Self { node: node.clone(), emitter, counts: OperatorCounts::default() }
    }

    fn records<'r>(&'r self, rows: &'r RecordBatch) -> Result<Records<'r>> {
        let none = || Error::internal("a record of changes without its fields");
        let (fields, others) = if self.node.is_wrapped {
            let payload = rows.columns().first().and_then(|column| column.as_struct_opt()).ok_or_else(none)?;
            (payload.columns(), rows.columns().get(1..).unwrap_or_default())
        } else {
            rows.columns().split_at_checked(3).ok_or_else(none)?
        };
        let [before, after, op] = fields else { return Err(none()) };
        let row = |column: &'r ArrayRef| column.as_struct_opt().ok_or_else(none);
        let rows = [row(before)?, row(after)?];
        let fields = self.emitter.schema.fields().iter().take(rows[BEFORE].num_columns()).enumerate();
        let required = fields.filter(|(_, field)| !field.is_nullable());
        Ok(Records {
            ops: op.as_string_opt::<i32>().ok_or_else(none)?,
            rows,
            others,
            required: required.map(|(at, field)| (at, field.name().as_str())).collect(),
        })
    }
}

impl Records<'_> {
    /// The rows that a record gives, as (row as it was or as it is, kind).
    fn change(&self, record: usize) -> Result<&'static [(usize, RowKind)], String> {
        const NEW: &[(usize, RowKind)] = &[(AFTER, RowKind::Insert)];
        const OTHER: &[(usize, RowKind)] = &[(BEFORE, RowKind::UpdateBefore), (AFTER, RowKind::UpdateAfter)];
        const GONE: &[(usize, RowKind)] = &[(BEFORE, RowKind::Delete)];
        let op = if self.ops.is_valid(record) { self.ops.value(record) } else { "" };
        let given = match op {
            "c" | "r" => NEW,
            "u" => OTHER,
            "d" => GONE,
            "" => return Err("no `op`".to_owned()),
            _ => return Err("`op` is none of `c`, `r`, `u` and `d`".to_owned()),
        };
        for (which, _) in given {
            let row = self.rows[*which];
            if row.is_null(record) {
                let missing = if *which == BEFORE { "before" } else { "after" };
                return Err(format!("`{op}` without `{missing}`"));
            }
            if let Some((_, name)) = self.required.iter().find(|(column, _)| row.column(*column).is_null(record)) {
                return Err(format!("`{name}` is NOT NULL"));
            }
        }
        Ok(given)
    }
}

impl Operator for Changes {
    fn process(&mut self, _port: usize, rows: RecordBatch, out: &mut Output) -> Result<()> {
        let count = rows.num_rows();
        let records = self.records(&rows)?;
        let (mut picked, mut places, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
        let mut bad: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for record in 0..count {
            match records.change(record) {
                Ok(given) => {
                    for (which, kind) in given {
                        picked.push(record as u32);
                        places.push((*which, record));
                        kinds.push(kind.code());
                    }
                }
                Err(reason) => bad.entry(reason).or_default().push(record as u32),
            }
        }
        let dead: usize = bad.values().map(Vec::len).sum();
        let picked = UInt32Array::from(picked);
        let mut columns = Vec::with_capacity(self.emitter.schema.fields().len());
        let [before, after] = records.rows;
        for (before, after) in before.columns().iter().zip(after.columns()) {
            columns.push(interleave(&[before.as_ref(), after.as_ref()], &places).map_err(internal)?);
        }
        for column in records.others {
            columns.push(take(column, &picked, None).map_err(internal)?);
        }
        columns.push(Arc::new(Int8Array::from(kinds)));
        let given = self.emitter.emit(columns, places.len(), out)?;
        for (reason, records) in bad {
            let rows = take_record_batch(&rows, &UInt32Array::from(records)).map_err(internal)?;
            out.dead.push(DeadRows { rows, reason: format!("{REASON_CHANGE}: {reason}") });
        }
        self.counts.rows_in += count as u64;
        self.counts.dead_lettered += dead as u64;
        self.counts.rows_out += given;
        self.counts.expanded += given - (count - dead) as u64;
        Ok(())
    }

    fn take_counts(&mut self) -> OperatorCounts {
        std::mem::take(&mut self.counts)
    }
}
