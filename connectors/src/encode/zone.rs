//! Zoned timestamps under one name of the zone.
//!
//! A TIMESTAMP_LTZ is an instant; its zone is a label, and the session's zone is UTC. The arrow crate's
//! text conversions know zones by offset alone, so the label becomes `+00:00` before they see it.

use std::sync::Arc;

use ::arrow::array::{ArrayData, RecordBatch, make_array};
use ::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use ::arrow::error::ArrowError;

/// The same type with every zone named `+00:00`, at any depth.
fn utc_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Timestamp(unit, Some(_)) => DataType::Timestamp(*unit, Some("+00:00".into())),
        DataType::List(field) => DataType::List(utc_field(field)),
        DataType::LargeList(field) => DataType::LargeList(utc_field(field)),
        DataType::FixedSizeList(field, size) => DataType::FixedSizeList(utc_field(field), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(utc_field).collect()),
        DataType::Map(field, sorted) => DataType::Map(utc_field(field), *sorted),
        other => other.clone(),
    }
}

fn utc_field(field: &FieldRef) -> FieldRef {
    Arc::new(Field::new(field.name(), utc_type(field.data_type()), field.is_nullable()))
}

pub(crate) fn utc_schema(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().iter().map(utc_field).collect::<Vec<_>>()))
}

/// The rows under `schema`, which [`utc_schema`] made of theirs. Values are shared, not copied.
pub(crate) fn utc_rows(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let relabelled = rows.columns().iter().zip(schema.fields()).map(|(column, field)| {
        if column.data_type() == field.data_type() {
            Ok(column.clone())
        } else {
            utc_data(column.to_data()).map(make_array)
        }
    });
    RecordBatch::try_new(schema.clone(), relabelled.collect::<Result<Vec<_>, _>>()?)
}

fn utc_data(data: ArrayData) -> Result<ArrayData, ArrowError> {
    let data_type = utc_type(data.data_type());
    if data_type == *data.data_type() {
        return Ok(data);
    }
    let children = data.child_data().iter().cloned().map(utc_data).collect::<Result<Vec<_>, _>>()?;
    data.into_builder().data_type(data_type).child_data(children).build()
}
