//! `CAST(ROW(a, b) AS ROW<x INT, y STRING>)`: fields are matched by position, as in Flink, and only then cast.
//! Arrow casts rows by name. [`crate::rules::conversions`] puts [`RENAMED`] inside of such casts.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray};
use arrow::datatypes::{DataType, FieldRef, Fields};
use datafusion_common::Result;
use datafusion_expr::ScalarUDF;

use super::define::{Args, Function, Kind, wrong};

/// The name of the call: the names of all fields as a JSON array, outer ones first, then the value.
pub(crate) const RENAMED: &str = "row_renamed";

pub(super) fn functions() -> Vec<ScalarUDF> {
    let second = |types: &[DataType]| types.get(1).cloned().map_or_else(|| wrong("a value is missing"), Ok);
    let by_names = |types: &[DataType], names: Option<&str>| match (types.get(1), names) {
        (Some(data_type), Some(names)) => renamed_type(data_type, &mut parse(names)?.into_iter()),
        _ => wrong("the names of a row are missing"),
    };
    vec![Function::new(RENAMED, &[Kind::Text, Kind::Any], second, renamed).literal_result(by_names).build()]
}

/// The names of `to`, if a value of type `from` has the same shape and other names.
pub(crate) fn other_names(from: &DataType, to: &DataType) -> Option<String> {
    let mut names = Vec::new();
    let differ = gather(from, to, &mut names)?;
    differ.then(|| serde_json::to_string(&names).unwrap_or_default())
}

/// Whether any name differs; None for other shapes.
fn gather(from: &DataType, to: &DataType, names: &mut Vec<String>) -> Option<bool> {
    match (from, to) {
        (DataType::List(from), DataType::List(to)) => gather(from.data_type(), to.data_type(), names),
        (DataType::Map(from, _), DataType::Map(to, _)) => match (from.data_type(), to.data_type()) {
            (DataType::Struct(from), DataType::Struct(to)) => pairs(from, to, names, false),
            _ => None,
        },
        (DataType::Struct(from), DataType::Struct(to)) if from.len() == to.len() => pairs(from, to, names, true),
        (DataType::Struct(_), DataType::Struct(_)) => None,
        _ => Some(false),
    }
}

fn pairs(from: &Fields, to: &Fields, names: &mut Vec<String>, is_row: bool) -> Option<bool> {
    let mut differ = false;
    for (from, to) in from.iter().zip(to) {
        if is_row {
            names.push(to.name().clone());
            differ |= from.name() != to.name();
        }
        differ |= gather(from.data_type(), to.data_type(), names)?;
    }
    Some(differ)
}

fn parse(names: &str) -> Result<Vec<String>> {
    serde_json::from_str(names).or_else(|_| wrong("the names of a row cannot be read"))
}

fn renamed_type(data_type: &DataType, names: &mut impl Iterator<Item = String>) -> Result<DataType> {
    Ok(match data_type {
        DataType::List(element) => DataType::List(renamed_field(element, None, names)?),
        DataType::Map(entries, sorted) => {
            let DataType::Struct(fields) = entries.data_type() else { return wrong("a map without entries") };
            let fields = fields.iter().map(|f| renamed_field(f, None, names)).collect::<Result<Fields>>()?;
            let entries = entries.as_ref().clone().with_data_type(DataType::Struct(fields));
            DataType::Map(Arc::new(entries), *sorted)
        }
        DataType::Struct(fields) => {
            let mut renamed = Vec::with_capacity(fields.len());
            for field in fields {
                let Some(name) = names.next() else { return wrong("a row has more fields than names") };
                renamed.push(renamed_field(field, Some(name), names)?);
            }
            DataType::Struct(renamed.into())
        }
        other => other.clone(),
    })
}

fn renamed_field(field: &FieldRef, name: Option<String>, names: &mut impl Iterator<Item = String>) -> Result<FieldRef> {
    let data_type = renamed_type(field.data_type(), names)?;
    let field = field.as_ref().clone().with_data_type(data_type);
    Ok(Arc::new(match name {
        Some(name) => field.with_name(name),
        None => field,
    }))
}

fn renamed(args: &Args) -> Result<ArrayRef> {
    let Some(names) = args.literal_text(0)? else { return wrong("the names of a row are missing") };
    let value = args.full(1)?;
    let to = renamed_type(value.data_type(), &mut parse(names)?.into_iter())?;
    retyped(&value, &to)
}

/// The same buffers under a type that differs in names alone.
fn retyped(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    Ok(match to {
        DataType::List(element) => {
            let list = array.as_list::<i32>();
            let values = retyped(list.values(), element.data_type())?;
            Arc::new(ListArray::try_new(Arc::clone(element), list.offsets().clone(), values, list.nulls().cloned())?)
        }
        DataType::Map(entries, sorted) => {
            let map = array.as_map();
            let inner: ArrayRef = Arc::new(map.entries().clone());
            let inner = retyped(&inner, entries.data_type())?.as_struct().clone();
            let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
            Arc::new(MapArray::try_new(Arc::clone(entries), offsets, inner, nulls, *sorted)?)
        }
        DataType::Struct(fields) => {
            let row = array.as_struct();
            let columns = row.columns().iter().zip(fields).map(|(column, field)| retyped(column, field.data_type()));
            let columns = columns.collect::<Result<Vec<_>>>()?;
            Arc::new(StructArray::try_new_with_length(fields.clone(), columns, row.nulls().cloned(), row.len())?)
        }
        _ => Arc::clone(array),
    })
}
