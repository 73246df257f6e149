//! Arrays and maps: `CARDINALITY`, `ELEMENT`.

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Int32Type};
use datafusion_common::Result;
use datafusion_expr::ScalarUDF;

use super::define::{Args, Function, Kind, build_numbers, failed, integer_type, wrong};
use crate::types::sql_name;

pub(super) fn functions() -> Vec<ScalarUDF> {
    vec![
        Function::new("cardinality", &[Kind::Any], integer_type, cardinality).coerce(collection_type).build(),
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
