//! Joins each row with a bounded table held whole in memory. Stateless: the table is loaded by the task.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, UInt16Array, UInt32Array};
use arrow::compute::{cast, concat_batches, filter, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion_common::DataFusionError;
use hashbrown::HashTable;
use qanat_proto::error::{Error, Result};
use qanat_proto::graph::{JoinKind, LookupJoinNode};
use qanat_proto::receipt::OperatorCounts;
use qanat_sql::expr;
use qanat_storage::state::{TableDelta, TableSpec};
use xxhash_rust::xxh3::xxh3_64;

use super::calc::CalcProgram;
use super::emit::{Emitter, batch_of};
use super::evaluate::{Expression, evaluate_or_bury, evaluation_error, internal, mask};
use super::keys::{any_null, normalized_key};
use super::{Operator, OperatorContext, Output};

pub struct LookupJoin {
    node: LookupJoinNode,
    name: String,
    /// Schema of loaded rows, and what makes right-hand rows of them.
    loaded: SchemaRef,
    calc: Option<CalcProgram>,
    filter: Option<Expression>,
    /// Input columns, then right columns.
    joined: SchemaRef,
    keys: RowConverter,
    table: Option<Table>,
    /// Input rows and pairs that are not all out yet.
    rest: Option<(RecordBatch, UInt32Array, UInt32Array)>,
    /// Rows of the version in use as they were loaded, if the next snapshot must save them. Only the
    /// subtask that owns key group 0 saves: all subtasks hold the same table.
    unsaved: Option<(u64, Vec<RecordBatch>)>,
    saves: bool,
    saved: TableSpec,
    emitter: Emitter,
    counts: OperatorCounts,
}

/// The right-hand rows with an index by key.
struct Table {
    version: u64,
    rows: RecordBatch,
    keys: Rows,
    /// Heads of the lists below, by key.
    heads: HashTable<u32>,
    /// The next row with the same key; `END` for none.
    next: Vec<u32>,
}

/// Name of the state table that keeps the version in use.
pub(crate) const TABLE: &str = "lookup";

/// The state table of a lookup table: key group, version, then the loaded columns.
pub(crate) fn saved_table(loaded: &SchemaRef) -> TableSpec {
    let mut fields = vec![
        Arc::new(Field::new("__key_group", DataType::UInt16, false)),
        Arc::new(Field::new("__version", DataType::Int64, false)),
    ];
    fields.extend(loaded.fields().iter().cloned());
    TableSpec {
        name: TABLE.to_owned(),
        schema: Arc::new(Schema::new(fields)),
        key_columns: 0,
        time_column: Some(1),
        append_only: true,
    }
}

/// A version in place of all that were saved before.
pub(crate) fn saved_delta(saved: &TableSpec, version: u64, rows: &[RecordBatch]) -> Result<TableDelta> {
    let version = i64::try_from(version).map_err(|_| Error::internal("a version above 2^63"))?;
    let mut upserts = Vec::with_capacity(rows.len());
    for batch in rows.iter().filter(|batch| batch.num_rows() > 0) {
        let count = batch.num_rows();
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(UInt16Array::from_value(0, count)), Arc::new(Int64Array::from_value(version, count))];
        columns.extend(batch.columns().iter().cloned());
        upserts.push(batch_of(&saved.schema, columns, count)?);
    }
    // An older version is dead once the newer one is saved.
    let closed = Some(version - 1);
    Ok(TableDelta { table: TABLE.to_owned(), upserts, deletes: Vec::new(), closed })
}

const END: u32 = u32::MAX;

/// Input rows and right rows that pair up.
type Pairs = (UInt32Array, UInt32Array);

impl LookupJoin {
    pub fn new(node: &LookupJoinNode, context: &OperatorContext) -> Result<Self> {
        if !matches!(node.kind, JoinKind::Inner | JoinKind::Left) {
            return Err(Error::internal(format!("a lookup join of kind {:?}", node.kind)));
        }
        let input = &context.inputs[0];
        let loaded = Arc::new(node.table.physical.project(&node.projection).map_err(internal)?);
        let saved_schema = Arc::clone(&loaded);
        let calc = node.calc.as_ref().map(|calc| CalcProgram::new(calc, &loaded, &context.name)).transpose()?;
        let joined: SchemaRef =
            Arc::new(Schema::new(input.fields().iter().chain(node.right.fields()).cloned().collect::<Vec<_>>()));
        let filter = node.filter.as_ref().map(|filter| expr::physical(filter, &joined)).transpose()?;
        let empty = RecordBatch::new_empty(Arc::clone(&node.right));
        let keys = key_columns(&empty, node.on.iter().map(|on| on.1)).map_err(internal)?;
        let fields = keys.iter().map(|key| SortField::new(key.data_type().clone())).collect();
        Ok(Self {
            name: context.name.clone(),
            keys: RowConverter::new(fields).map_err(internal)?,
            node: node.clone(),
            loaded,
            calc,
            filter,
            joined,
            table: None,
            rest: None,
            unsaved: None,
            saves: context.range.start == 0,
            saved: saved_table(&saved_schema),
            emitter: Emitter::new(Arc::clone(&context.output), context.batch_rows),
            counts: OperatorCounts::default(),
        })
    }

    /// The version of the table in use.
    pub fn version(&self) -> Option<u64> {
        self.table.as_ref().map(|table| table.version)
    }

    fn right_rows(&self, rows: &[RecordBatch]) -> Result<RecordBatch> {
        let mut right = Vec::with_capacity(rows.len());
        for batch in rows {
            let batch = batch_of(&self.loaded, batch.columns().to_vec(), batch.num_rows())?;
            let (count, columns) = match &self.calc {
                None => (batch.num_rows(), batch.columns().to_vec()),
                Some(calc) => calc.run(&batch).map_err(|e| evaluation_error(&self.name, &e))?,
            };
            right.push(batch_of(&self.node.right, columns, count)?);
        }
        concat_batches(&self.node.right, &right).map_err(internal)
    }

    /// Pairs for `rows` in the order of `rows`; for a left join, rows without a partner are paired with
    /// NULL.
    fn pairs(&self, table: &Table, rows: &RecordBatch) -> Result<Pairs, DataFusionError> {
        let keys = self.probe_keys(rows)?;
        let nulls = any_null(&keys);
        let keys = self.keys_of(&keys)?;
        let (mut lefts, mut rights): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());
        for row in 0..rows.num_rows() {
            if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                continue;
            }
            let mut partner = table.head(keys.row(row).as_ref());
            while partner != END {
                lefts.push(row as u32);
                rights.push(partner);
                partner = table.next[partner as usize];
            }
        }
        let (lefts, rights) = self.satisfying(table, rows, lefts.into(), rights.into())?;
        if self.node.kind == JoinKind::Inner {
            return Ok((lefts, rights));
        }
        let (mut with_alone, mut partners) = (Vec::with_capacity(lefts.len()), Vec::with_capacity(lefts.len()));
        let mut pairs = lefts.values().iter().zip(rights.values()).peekable();
        for row in 0..rows.num_rows() as u32 {
            let before = with_alone.len();
            while let Some((_, right)) = pairs.next_if(|(left, _)| **left == row) {
                with_alone.push(row);
                partners.push(Some(*right));
            }
            if with_alone.len() == before {
                with_alone.push(row);
                partners.push(None);
            }
        }
        Ok((with_alone.into(), partners.into()))
    }

    fn satisfying(
        &self,
        table: &Table,
        rows: &RecordBatch,
        lefts: UInt32Array,
        rights: UInt32Array,
    ) -> Result<Pairs, DataFusionError> {
        let Some(condition) = &self.filter else { return Ok((lefts, rights)) };
        let columns = joined_columns(rows, &table.rows, &lefts, &rights)?;
        let pairs =
            batch_of(&self.joined, columns, lefts.len()).map_err(|e| DataFusionError::Internal(e.to_string()))?;
        let holds = mask(condition, &pairs)?;
        let kept = |rows: &UInt32Array| -> Result<UInt32Array, DataFusionError> {
            let rows = filter(rows, &holds)?;
            Ok(arrow::array::AsArray::as_primitive::<arrow::datatypes::UInt32Type>(&rows).clone())
        };
        Ok((kept(&lefts)?, kept(&rights)?))
    }

    /// Key columns of input rows, in the types of the right side.
    fn probe_keys(&self, rows: &RecordBatch) -> Result<Vec<ArrayRef>, DataFusionError> {
        let keys = key_columns(rows, self.node.on.iter().map(|on| on.0))?;
        let rights = self.node.on.iter().map(|on| self.node.right.field(on.1).data_type());
        keys.into_iter()
            .zip(rights)
            .map(|(key, right)| {
                let right = match right {
                    arrow::datatypes::DataType::Dictionary(_, value) => value.as_ref(),
                    other => other,
                };
                if key.data_type() == right { Ok(key) } else { Ok(cast(&key, right)?) }
            })
            .collect()
    }

    /// Comparable keys. Without key columns all rows have the same key.
    fn keys_of(&self, keys: &[ArrayRef]) -> Result<Rows, DataFusionError> {
        Ok(self.keys.convert_columns(keys)?)
    }
}

impl Operator for LookupJoin {
    fn process(&mut self, _port: usize, rows: RecordBatch, out: &mut Output) -> Result<()> {
        let taken = rows.num_rows() as u64;
        let dead = out.dead.len();
        let Some(table) = &self.table else {
            return Err(Error::internal(format!("{}: rows came before the table was loaded", self.name)));
        };
        let joined = evaluate_or_bury(&self.name, rows, out, |rows| self.pairs(table, rows))?;
        self.counts.rows_in += taken;
        let dead: u64 = out.dead[dead..].iter().map(|dead| dead.rows.num_rows() as u64).sum();
        self.counts.dead_lettered += dead;
        let Some((rows, (lefts, rights))) = joined else { return Ok(()) };
        let mut lonely = rows.num_rows() as u64;
        let mut last = None;
        for left in lefts.values() {
            lonely -= u64::from(last != Some(*left));
            last = Some(*left);
        }
        self.counts.filtered += lonely;
        self.counts.expanded += lefts.len() as u64 - (rows.num_rows() as u64 - lonely);
        self.rest = Some((rows, lefts, rights));
        Ok(())
    }

    fn resume(&mut self, out: &mut Output) -> Result<bool> {
        let (Some((rows, lefts, rights)), Some(table)) = (self.rest.take(), &self.table) else { return Ok(false) };
        let count = self.emitter.batch_rows.min(lefts.len());
        let columns = joined_columns(&rows, &table.rows, &lefts.slice(0, count), &rights.slice(0, count));
        self.counts.rows_out += self.emitter.emit(columns.map_err(internal)?, count, out)?;
        let left = lefts.len() - count;
        self.rest = (left > 0).then(|| (rows, lefts.slice(count, left), rights.slice(count, left)));
        Ok(left > 0)
    }

    fn load(&mut self, version: u64, rows: Vec<RecordBatch>, is_saved: bool) -> Result<()> {
        let loaded = rows;
        let rows = self.right_rows(&loaded)?;
        if u32::try_from(rows.num_rows()).is_err() {
            return Err(Error::new(qanat_proto::error::Code::MemoryLimit, "a lookup table has more than 2^32 rows"));
        }
        let error = |e| evaluation_error(&self.name, &e);
        let keys = key_columns(&rows, self.node.on.iter().map(|on| on.1)).map_err(error)?;
        let nulls = any_null(&keys);
        let keys = self.keys_of(&keys).map_err(error)?;
        if self.saves && !is_saved {
            self.unsaved = Some((version, loaded));
        }
        self.table = Some(Table::new(version, rows, keys, |row| nulls.as_ref().is_some_and(|n| n.is_null(row))));
        Ok(())
    }

    fn tables(&self) -> Vec<TableSpec> {
        vec![self.saved.clone()]
    }

    fn snapshot(&mut self) -> Result<Vec<TableDelta>> {
        let Some((version, rows)) = self.unsaved.take() else { return Ok(Vec::new()) };
        Ok(vec![saved_delta(&self.saved, version, &rows)?])
    }

    fn lookup_version(&self) -> Option<u64> {
        self.version()
    }

    fn state_bytes(&self) -> usize {
        self.table.as_ref().map_or(0, Table::bytes)
    }

    fn take_counts(&mut self) -> OperatorCounts {
        std::mem::take(&mut self.counts)
    }
}

impl Table {
    fn new(version: u64, rows: RecordBatch, keys: Rows, is_null: impl Fn(usize) -> bool) -> Self {
        let count = rows.num_rows();
        let mut next = vec![END; count];
        let mut heads: HashTable<u32> = HashTable::new();
        let hash_of = |row: u32| xxh3_64(keys.row(row as usize).as_ref());
        // From the last row to the first, so that each list is in the order of the rows.
        for row in (0..count).rev().filter(|row| !is_null(*row)) {
            let key = keys.row(row);
            let same = |head: &u32| keys.row(*head as usize) == key;
            match heads.entry(xxh3_64(key.as_ref()), same, |head| hash_of(*head)) {
                hashbrown::hash_table::Entry::Occupied(mut head) => {
                    next[row] = *head.get();
                    *head.get_mut() = row as u32;
                }
                hashbrown::hash_table::Entry::Vacant(slot) => {
                    slot.insert(row as u32);
                }
            }
        }
        Self { version, rows, keys, heads, next }
    }

    fn head(&self, key: &[u8]) -> u32 {
        let found = self.heads.find(xxh3_64(key), |head| self.keys.row(*head as usize).as_ref() == key);
        found.copied().unwrap_or(END)
    }

    fn bytes(&self) -> usize {
        let index = self.heads.capacity() * (size_of::<u32>() + 1) + self.next.capacity() * size_of::<u32>();
        self.rows.get_array_memory_size() + self.keys.size() + index
    }
}

fn key_columns(rows: &RecordBatch, columns: impl Iterator<Item = usize>) -> Result<Vec<ArrayRef>, DataFusionError> {
    columns.map(|column| normalized_key(rows.column(column))).collect()
}

/// Columns of both sides; NULL right rows give NULLs.
fn joined_columns(
    left: &RecordBatch,
    right: &RecordBatch,
    lefts: &UInt32Array,
    rights: &UInt32Array,
) -> Result<Vec<ArrayRef>, DataFusionError> {
    let mut columns = Vec::with_capacity(left.num_columns() + right.num_columns());
    for column in left.columns() {
        columns.push(take(column, lefts, None)?);
    }
    for column in right.columns() {
        columns.push(if column.is_empty() {
            arrow::array::new_null_array(column.data_type(), rights.len())
        } else {
            take(column, rights, None)?
        });
    }
    Ok(columns)
}
