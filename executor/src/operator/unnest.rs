//! One row per element of a list or map; the other columns repeat. Stateless.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::DataType;
use qanat_proto::error::{Error, Result};
use qanat_proto::graph::UnnestNode;
use qanat_proto::receipt::OperatorCounts;

use super::emit::Emitter;
use super::evaluate::internal;
use super::{Operator, OperatorContext, Output};

/// A row without elements counts as filtered unless the node is `outer`.
pub struct Unnest {
    node: UnnestNode,
    emitter: Emitter,
    counts: OperatorCounts,
}

/// The elements of a column: all of them one behind the other, and where those of each row lie.
struct Elements {
    /// One array, or key and value of a map.
    values: Vec<ArrayRef>,
    /// (first, count) by row; none for NULL.
    ranges: Vec<(usize, usize)>,
}

impl Unnest {
    pub fn new(node: &UnnestNode, context: &OperatorContext) -> Self {
        let emitter = Emitter::new(Arc::clone(&context.output), context.batch_rows);
        Self { node: node.clone(), emitter, counts: OperatorCounts::default() }
    }

    fn emit(
        &mut self,
        rows: &RecordBatch,
        elements: &[ArrayRef],
        picked: &UInt32Array,
        places: &UInt64Array,
        positions: &Int32Array,
        out: &mut Output,
    ) -> Result<()> {
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(rows.num_columns() + elements.len());
        for (i, column) in rows.columns().iter().enumerate() {
            if i == self.node.column {
                for values in elements {
                    columns.push(take_or_null(values, places)?);
                }
            } else {
                columns.push(take(column, picked, None).map_err(internal)?);
            }
        }
        if self.node.ordinality {
            columns.push(Arc::new(positions.clone()));
        }
        self.counts.rows_out += self.emitter.emit(columns, picked.len(), out)?;
        Ok(())
    }
}

impl Operator for Unnest {
    fn process(&mut self, _port: usize, rows: RecordBatch, out: &mut Output) -> Result<()> {
        self.counts.rows_in += rows.num_rows() as u64;
        let elements = Elements::of(rows.column(self.node.column))?;
        let columns = expand(elements.values, self.node.expand_struct)?;
        let (mut picked, mut places, mut positions) = (Vec::new(), Vec::new(), Vec::new());
        let mut without = 0;
        for (row, (first, count)) in elements.ranges.iter().enumerate() {
            for element in 0..*count {
                picked.push(row as u32);
                places.push(Some((first + element) as u64));
                positions.push(Some(element as i32 + 1));
            }
            if *count == 0 && self.node.outer {
                picked.push(row as u32);
                places.push(None);
                positions.push(None);
            } else if *count == 0 {
                without += 1;
            }
            // A row may have very many elements: what is ready goes on.
            if picked.len() >= self.emitter.batch_rows || row + 1 == rows.num_rows() {
                let made = picked.len() as u64;
                let batch = (picked.into(), places.into(), positions.into());
                self.emit(&rows, &columns, &batch.0, &batch.1, &batch.2, out)?;
                self.counts.expanded += made;
                (picked, places, positions) = (Vec::new(), Vec::new(), Vec::new());
            }
        }
        // Rows beyond one per input row that was kept.
        self.counts.filtered += without;
        self.counts.expanded -= rows.num_rows() as u64 - without;
        Ok(())
    }

    fn take_counts(&mut self) -> OperatorCounts {
        std::mem::take(&mut self.counts)
    }
}

impl Elements {
    fn of(column: &ArrayRef) -> Result<Self> {
        let is_null = |row: usize| column.is_null(row);
        let ranges_of = |range: &dyn Fn(usize) -> (usize, usize)| {
            (0..column.len()).map(|row| if is_null(row) { (0, 0) } else { range(row) }).collect()
        };
        Ok(match column.data_type() {
            DataType::List(_) => {
                let list = column.as_list::<i32>();
                let offsets = list.value_offsets();
                let range = |row: usize| (offsets[row] as usize, (offsets[row + 1] - offsets[row]) as usize);
                Self { values: vec![Arc::clone(list.values())], ranges: ranges_of(&range) }
            }
            DataType::LargeList(_) => {
                let list = column.as_list::<i64>();
                let offsets = list.value_offsets();
                let range = |row: usize| (offsets[row] as usize, (offsets[row + 1] - offsets[row]) as usize);
                Self { values: vec![Arc::clone(list.values())], ranges: ranges_of(&range) }
            }
            DataType::FixedSizeList(_, _) => {
                let list = column.as_fixed_size_list();
                let length = list.value_length() as usize;
                let first = list.value_offset(0) as usize;
                let range = |row: usize| (first + row * length, length);
                Self { values: vec![Arc::clone(list.values())], ranges: ranges_of(&range) }
            }
            DataType::Map(_, _) => {
                let map = column.as_map();
                let offsets = map.value_offsets();
                let range = |row: usize| (offsets[row] as usize, (offsets[row + 1] - offsets[row]) as usize);
                Self { values: vec![Arc::clone(map.keys()), Arc::clone(map.values())], ranges: ranges_of(&range) }
            }
            other => return Err(Error::internal(format!("UNNEST of a column of type {other}"))),
        })
    }
}

/// Struct elements as one column per field, where the node wants that. A NULL struct has NULL fields.
fn expand(values: Vec<ArrayRef>, expand_struct: bool) -> Result<Vec<ArrayRef>> {
    let [element] = values.as_slice() else { return Ok(values) };
    let Some(fields) = element.as_struct_opt().filter(|_| expand_struct) else { return Ok(values) };
    let Some(nulls) = fields.nulls().filter(|nulls| nulls.null_count() > 0) else {
        return Ok(fields.columns().to_vec());
    };
    let present: UInt32Array = (0..fields.len() as u32).map(|i| nulls.is_valid(i as usize).then_some(i)).collect();
    fields.columns().iter().map(|column| take(column, &present, None)).collect::<Result<_, _>>().map_err(internal)
}

fn take_or_null(values: &ArrayRef, places: &UInt64Array) -> Result<ArrayRef> {
    if values.is_empty() {
        return Ok(arrow::array::new_null_array(values.data_type(), places.len()));
    }
    take(values, places, None).map_err(internal)
}
