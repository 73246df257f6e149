//! Arrays and maps: `CARDINALITY`, `ELEMENT`, `MAP_UNION`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use arrow::array::builder::NullBufferBuilder;
use arrow::array::{Array, ArrayRef, AsArray, MapArray, StructArray, UInt32Array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{interleave, take};
use arrow::datatypes::{DataType, Int32Type};
use arrow::row::{Row, RowConverter, SortField};
use datafusion_common::Result;
use datafusion_expr::ScalarUDF;

use super::define::{Args, Function, Kind, build_numbers, failed, integer_type, wrong};
use crate::types::{map_of, sql_name};

pub(super) fn functions() -> Vec<ScalarUDF> {
    vec![
        Function::new("cardinality", &[Kind::Any], integer_type, cardinality).coerce(collection_type).build(),
        Function::new("map_from_entries", &[Kind::Any], entries_type, map_from_entries).coerce(collection_type).build(),
        Function::new("map_union", &[Kind::Any], first_type, map_union).variadic().coerce(map_types).build(),
        Function::new(MAP_VALUE, &[Kind::Any, Kind::Any], value_type, map_value).coerce(map_and_key).build(),
        Function::new("element", &[Kind::Any], element_type, element).coerce(collection_type).build(),
    ]
}

/// `m[k]` of a map with a key that is no literal: see `rules::map_access`.
pub(crate) const MAP_VALUE: &str = "__map_value";

/// Types of the keys and values of a map.
pub(crate) fn entry_types(map: &DataType) -> Option<(&DataType, &DataType)> {
    let DataType::Map(entries, _) = map else { return None };
    let DataType::Struct(fields) = entries.data_type() else { return None };
    let [key, value] = fields.as_ref() else { return None };
    Some((key.data_type(), value.data_type()))
}

/// The key as the map's keys are.
fn map_and_key(types: &[DataType]) -> Result<Vec<DataType>> {
    match types.first().map(|map| (map, entry_types(map))) {
        Some((map, Some((key, _)))) => Ok(vec![map.clone(), key.clone()]),
        _ => wrong("a key is looked up in a map"),
    }
}

fn value_type(types: &[DataType]) -> Result<DataType> {
    match types.first().and_then(entry_types) {
        Some((_, value)) => Ok(value.clone()),
        None => wrong("a key is looked up in a map"),
    }
}

/// The value of the entry with the key; NULL without one, or of a NULL map or key.
fn map_value(args: &Args) -> Result<ArrayRef> {
    let (maps, keys) = (args.full(0)?, args.full(1)?);
    let map = maps.as_map();
    let converter = RowConverter::new(vec![SortField::new(map.keys().data_type().clone())])?;
    let entries = converter.convert_columns(&[Arc::clone(map.keys())])?;
    let wanted = converter.convert_columns(&[Arc::clone(&keys)])?;
    let offsets = map.value_offsets();
    let indexes = (0..args.rows).map(|row| {
        let (start, end) = (offsets.get(row).copied()?, offsets.get(row + 1).copied()?);
        if map.is_null(row) || keys.is_null(row) {
            return None;
        }
        let mut places = usize::try_from(start).ok()?..usize::try_from(end).ok()?;
        places.find(|entry| entries.row(*entry) == wanted.row(row)).and_then(|entry| u32::try_from(entry).ok())
    });
    Ok(take(map.values(), &indexes.collect::<UInt32Array>(), None)?)
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

/// All maps as the one type that holds their keys and values.
fn map_types(types: &[DataType]) -> Result<Vec<DataType>> {
    let mut common: Option<(DataType, DataType)> = None;
    for data_type in types.iter().filter(|data_type| **data_type != DataType::Null) {
        let Some((key, value)) = entry_types(data_type) else {
            return wrong(format!("MAP_UNION takes maps, not {}", sql_name(data_type)));
        };
        let found = (key.clone(), value.clone());
        common = Some(match common {
            None => found,
            Some((key, value)) => match (type_union(&key, &found.0), type_union(&value, &found.1)) {
                (Some(key), Some(value)) => (key, value),
                _ => {
                    let (first, other) = (sql_name(&map_of(key, value)), sql_name(data_type));
                    return wrong(format!("MAP_UNION takes maps of one type, not {first} and {other}"));
                }
            },
        });
    }
    let (key, value) = common.unwrap_or((DataType::Utf8, DataType::Utf8));
    Ok(vec![map_of(key, value); types.len()])
}

fn type_union(left: &DataType, right: &DataType) -> Option<DataType> {
    if left == right {
        return Some(left.clone());
    }
    datafusion_expr::type_coercion::binary::type_union_resolution(&[left.clone(), right.clone()])
}

fn first_type(types: &[DataType]) -> Result<DataType> {
    types.first().cloned().map_or_else(|| wrong("MAP_UNION takes a map"), Ok)
}

/// The entries of all maps; of a key that several have, the value of the last. NULL if any map is.
fn map_union(args: &Args) -> Result<ArrayRef> {
    let arrays = (0..args.len()).map(|index| args.full(index)).collect::<Result<Vec<_>>>()?;
    let maps: Vec<&MapArray> = arrays.iter().map(|array| array.as_map()).collect();
    let Some(DataType::Map(field, is_sorted)) = maps.first().map(|map| map.data_type().clone()) else {
        return wrong("MAP_UNION takes a map");
    };
    let keys: Vec<&dyn Array> = maps.iter().map(|map| map.keys().as_ref()).collect();
    let values: Vec<&dyn Array> = maps.iter().map(|map| map.values().as_ref()).collect();
    let key_type = keys.first().map(|keys| keys.data_type().clone()).unwrap_or(DataType::Null);
    let converter = RowConverter::new(vec![SortField::new(key_type)])?;
    let texts = maps.iter().map(|map| converter.convert_columns(&[Arc::clone(map.keys())]));
    let texts = texts.collect::<std::result::Result<Vec<_>, _>>()?;
    let mut picked: Vec<(usize, usize)> = Vec::new();
    let mut lengths = Vec::with_capacity(args.rows);
    let mut nulls = NullBufferBuilder::new(args.rows);
    for row in 0..args.rows {
        let is_null = maps.iter().any(|map| map.is_null(row));
        nulls.append(!is_null);
        let first = picked.len();
        if !is_null {
            let mut places: HashMap<Row<'_>, usize> = HashMap::new();
            for (index, (map, texts)) in maps.iter().zip(&texts).enumerate() {
                let offsets = map.value_offsets();
                let (Some(start), Some(end)) = (offsets.get(row), offsets.get(row + 1)) else {
                    return failed("a map is cut short");
                };
                for entry in usize::try_from(*start).unwrap_or(0)..usize::try_from(*end).unwrap_or(0) {
                    match places.entry(texts.row(entry)) {
                        Entry::Occupied(place) => picked[*place.get()] = (index, entry),
                        Entry::Vacant(place) => {
                            place.insert(picked.len());
                            picked.push((index, entry));
                        }
                    }
                }
            }
        }
        lengths.push(picked.len() - first);
    }
    let DataType::Struct(fields) = field.data_type() else { return wrong("a map without entries") };
    let entries =
        StructArray::try_new(fields.clone(), vec![interleave(&keys, &picked)?, interleave(&values, &picked)?], None)?;
    let map = MapArray::try_new(field, OffsetBuffer::from_lengths(lengths), entries, nulls.finish(), is_sorted)?;
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
