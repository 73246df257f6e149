//! Key columns as groups and joins compare them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::cast;
use arrow::compute::kernels::cmp::distinct;
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Schema};
use arrow::row::{RowConverter, SortField};
use datafusion_common::DataFusionError;
use datafusion_physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion_physical_plan::aggregates::order::GroupOrdering;

/// A key column in the one form in which equal keys are equal bytes: dictionaries unpacked, −0.0 as
/// 0.0, every NaN as the same NaN. NULL stays NULL.
pub(crate) fn normalized_key(column: &ArrayRef) -> Result<ArrayRef, DataFusionError> {
    match column.data_type() {
        DataType::Dictionary(_, value) => normalized_key(&cast(column, value)?),
        _ => Ok(normalized_float(column)),
    }
}

/// A column of values that are sorted or told apart: −0.0 as 0.0, every NaN as the same NaN. The type
/// stays.
pub(crate) fn normalized_float(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Float64 => {
            let odd = |v: f64| v.is_nan() || v == 0.0;
            normalized::<Float64Type>(column, odd, |v| if v.is_nan() { f64::NAN } else { v + 0.0 })
        }
        DataType::Float32 => {
            let odd = |v: f32| v.is_nan() || v == 0.0;
            normalized::<Float32Type>(column, odd, |v| if v.is_nan() { f32::NAN } else { v + 0.0 })
        }
        _ => Arc::clone(column),
    }
}

fn normalized<T: ArrowPrimitiveType>(
    column: &ArrayRef,
    is_odd: impl Fn(T::Native) -> bool,
    normal: impl Fn(T::Native) -> T::Native,
) -> ArrayRef {
    let values = column.as_primitive::<T>();
    if !values.values().iter().any(|v| is_odd(*v)) {
        return Arc::clone(column);
    }
    Arc::new(PrimitiveArray::<T>::new(values.values().iter().map(|v| normal(*v)).collect(), values.nulls().cloned()))
}

/// The type of a key column once it is normalised.
pub(crate) fn key_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, value) => value.as_ref().clone(),
        other => other.clone(),
    }
}

/// Key columns, normalised, as columns of `types`.
pub(crate) fn keys_of(
    rows: &RecordBatch,
    columns: &[usize],
    types: &[DataType],
) -> Result<Vec<ArrayRef>, DataFusionError> {
    let keys = columns.iter().zip(types).map(|(column, key_type)| {
        let key = normalized_key(rows.column(*column))?;
        Ok(if key.data_type() == key_type { key } else { cast(&key, key_type)? })
    });
    keys.collect()
}

/// Numbers keys in order of arrival. Without key columns all rows are group 0.
pub(crate) struct KeyIndex {
    values: Option<Box<dyn GroupValues>>,
    types: Vec<DataType>,
    sole_group: bool,
}

impl KeyIndex {
    pub(crate) fn new(types: &[DataType]) -> Result<Self, DataFusionError> {
        let values = if types.is_empty() { None } else { Some(group_values(types)?) };
        Ok(Self { values, types: types.to_vec(), sole_group: false })
    }

    /// The group of each row into `groups`.
    pub(crate) fn intern(
        &mut self,
        keys: &[ArrayRef],
        rows: usize,
        groups: &mut Vec<usize>,
    ) -> Result<(), DataFusionError> {
        match &mut self.values {
            Some(values) => values.intern(keys, groups),
            None => {
                groups.clear();
                groups.resize(rows, 0);
                self.sole_group |= rows > 0;
                Ok(())
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.values {
            Some(values) => values.len(),
            None => usize::from(self.sole_group),
        }
    }

    /// All keys, by group. The index is empty afterwards.
    pub(crate) fn take(&mut self) -> Result<Vec<ArrayRef>, DataFusionError> {
        self.sole_group = false;
        match &mut self.values {
            Some(values) => {
                let keys = values.emit(datafusion_expr::EmitTo::All)?;
                *values = group_values(&self.types)?;
                Ok(keys)
            }
            None => Ok(Vec::new()),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.values.as_ref().map_or(0, |values| values.size())
    }
}

fn group_values(types: &[DataType]) -> Result<Box<dyn GroupValues>, DataFusionError> {
    let fields: Vec<Field> =
        types.iter().enumerate().map(|(i, t)| Field::new(format!("key_{i}"), t.clone(), true)).collect();
    new_group_values(Arc::new(Schema::new(fields)), &GroupOrdering::None)
}

/// Rows in which two columns of one type differ. NULL is equal to NULL, and a float to one that prints the same.
pub(crate) fn any_different(a: &ArrayRef, b: &ArrayRef) -> Result<BooleanBuffer, DataFusionError> {
    if a.data_type().is_nested() {
        let converter = RowConverter::new(vec![SortField::new(a.data_type().clone())])?;
        let (a, b) = (converter.convert_columns(&[Arc::clone(a)])?, converter.convert_columns(&[Arc::clone(b)])?);
        return Ok(a.iter().zip(b.iter()).map(|(a, b)| a != b).collect());
    }
    Ok(distinct(a, b)?.into_parts().0)
}

/// Rows in which any key is NULL: such rows equal nothing in a join.
pub(crate) fn any_null(keys: &[ArrayRef]) -> Option<arrow::buffer::NullBuffer> {
    keys.iter().fold(None, |nulls, key| arrow::buffer::NullBuffer::union(nulls.as_ref(), key.logical_nulls().as_ref()))
}
