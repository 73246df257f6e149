//! Arrays and maps: `CARDINALITY`, `ELEMENT`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, MapArray, StructArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Int32Type};
use datafusion_common::Result;
use datafusion_expr::ScalarUDF;

use super::define::{Args, Function, Kind, build_numbers, failed, integer_type, wrong};
use crate::types::{map_of, sql_name};

pub(super) fn functions() -> Vec<ScalarUDF> {
    vec![
        Function::new("cardinality", &[Kind::Any], integer_type, cardinality).coerce(collection_type).build(),
        Function::new("map_from_entries", &[Kind::Any], entries_type, map_from_entries).coerce(collection_type).build(),
        Function::new("element", &[Kind::Any], element_type, element).coerce(collection_type).build(),
    ]
}

/// A list of any layout as List, a map as it is.
fn collection_type(types: &[DataType]) -> Result<Vec<DataType>> {
    match types.first() {
        Some(DataType::LargeList(field) | DataType::FixedSizeList(field, _)) => {
            Ok(vec![DataType::List(std::sync::Arc::clone(field))])
        }
        Some(data_type @ (DataType::List(_) | DataType::Map(..))) => Ok(vec![data_type.clone()]),
        Some(DataType::Null) => Ok(vec![crate::types::list_of(DataType::Null)]),
        Some(other) => wrong(format!("this function takes an array or map, not {}", sql_name(other))),
        None => wrong("this function takes an array or map"),
    }
}

fn cardinality(args: &Args) -> Result<ArrayRef> {
    let array = args.full(0)?;
    let offsets = match array.data_type() {
        DataType::Map(..) => array.as_map().offsets().clone(),
        _ => array.as_list::<i32>().offsets().clone(),
    };
    build_numbers::<Int32Type>(args.rows, |row| {
        let length = offsets.get(row + 1).zip(offsets.get(row)).map(|(end, start)| end - start);
        Ok(length.filter(|_| array.is_valid(row)))
    })
}

fn entries_type(types: &[DataType]) -> Result<DataType> {
    match types.first() {
        Some(DataType::List(field)) => match field.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                let types: Vec<DataType> = fields.iter().map(|field| field.data_type().clone()).collect();
                let [key, value] = types.as_slice() else { return wrong("a row lost its fields") };
                Ok(map_of(key.clone(), value.clone()))
            }
            _ => wrong("MAP_FROM_ENTRIES takes an array of rows with two fields"),
        },
        _ => wrong("MAP_FROM_ENTRIES takes an array"),
    }
}

/// The rows of the array as entries; a NULL key or entry fails.
fn map_from_entries(args: &Args) -> Result<ArrayRef> {
    let array = args.full(0)?;
    let list = array.as_list::<i32>();
    let DataType::Map(entries_field, _) = entries_type(&[list.data_type().clone()])? else { return wrong("no map") };
    let DataType::Struct(fields) = entries_field.data_type() else { return wrong("no map") };
    let rows = list.values().as_struct();
    if rows.null_count() > 0 || rows.columns().first().is_some_and(|keys| keys.null_count() > 0) {
        return failed("an entry or a key of MAP_FROM_ENTRIES is NULL");
    }
    let entries = StructArray::try_new(fields.clone(), rows.columns().to_vec(), None)?;
    let map =
        MapArray::try_new(Arc::clone(&entries_field), list.offsets().clone(), entries, list.nulls().cloned(), false)?;
    Ok(Arc::new(map))
}

fn element_type(types: &[DataType]) -> Result<DataType> {
    match types.first() {
        Some(DataType::List(field)) => Ok(field.data_type().clone()),
        _ => wrong("ELEMENT takes an array"),
    }
}

/// The only element; NULL of an empty array, an error if there are more.
fn element(args: &Args) -> Result<ArrayRef> {
    let array = args.full(0)?;
    let list = array.as_list::<i32>();
    let offsets = list.value_offsets();
    let mut indexes = Vec::with_capacity(args.rows);
    for row in 0..args.rows {
        let (Some(start), Some(end)) = (offsets.get(row), offsets.get(row + 1)) else {
            return failed("a list is cut short");
        };
        indexes.push(match end - start {
            _ if list.is_null(row) => None,
            0 => None,
            1 => u32::try_from(*start).ok(),
            count => return failed(format!("ELEMENT takes an array of one element, not of {count}")),
        });
    }
    Ok(take(list.values(), &UInt32Array::from(indexes), None)?)
}
