//! Functions of arrays that have Flink's meaning: a NULL array gives NULL, NULL is an element like others,
//! places are counted from 1.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DynComparator, ListArray, UInt32Array, make_comparator};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{SortOptions, concat, take};
use arrow::datatypes::{DataType, Int32Type};
use datafusion_common::Result;
use datafusion_expr::ScalarUDF;
use datafusion_expr::type_coercion::binary::type_union_resolution;

use super::define::{Args, Function, Kind, build_numbers, elements, failed, integer_type, wrong};
use super::math::canonical_floats;
use crate::types::{list_of, sql_name};

pub(super) fn functions() -> Vec<ScalarUDF> {
    use Kind::Any;
    let boolean = |_: &[DataType]| Ok(DataType::Boolean);
    vec![
        Function::new("array_contains", &[Any, Any], boolean, contains).coerce(list_and_element).build(),
        Function::new("array_position", &[Any, Any], integer_type, position).coerce(list_and_element).build(),
        Function::new("array_remove", &[Any, Any], first_type, remove).coerce(list_and_new_element).build(),
        Function::new("array_append", &[Any, Any], first_type, append).coerce(list_and_new_element).build(),
        Function::new("array_prepend", &[Any, Any], first_type, prepend).coerce(list_and_new_element).build(),
        Function::new("array_concat", &[Any], first_type, concatenate).variadic().coerce(lists).build(),
        Function::new("array_sort", &[Any, Any, Any], first_type, sort).required(1).coerce(list_and_flags).build(),
        Function::new("array_slice", &[Any, Any, Any], first_type, slice).required(2).coerce(list_and_places).build(),
    ]
}

fn first_type(types: &[DataType]) -> Result<DataType> {
    match types.first() {
        Some(list) => Ok(list.clone()),
        None => wrong("an array is missing"),
    }
}

fn element_of(list: &DataType) -> Result<DataType> {
    match list {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            Ok(field.data_type().clone())
        }
        DataType::Null => Ok(DataType::Null),
        other => wrong(format!("this function takes an array, not {}", sql_name(other))),
    }
}

/// The type that elements of all these types have.
fn common(types: &[DataType]) -> Result<DataType> {
    match type_union_resolution(types) {
        Some(common) => Ok(common),
        None => {
            let names: Vec<String> = types.iter().map(sql_name).collect();
            wrong(format!("elements of one array cannot be {}", names.join(" and ")))
        }
    }
}

fn list_and_element(types: &[DataType]) -> Result<Vec<DataType>> {
    let [list, element] = types else { return wrong("an array and an element are needed") };
    let common = common(&[element_of(list)?, element.clone()])?;
    Ok(vec![list_of(common.clone()), common])
}

/// The same where the array is the result: an integer becomes one of its kind, as a literal is BIGINT here
/// and INT to Flink. One that does not fit fails the row.
fn list_and_new_element(types: &[DataType]) -> Result<Vec<DataType>> {
    let [list, element] = types else { return wrong("an array and an element are needed") };
    let of_list = element_of(list)?;
    if of_list.is_integer() && element.is_integer() {
        return Ok(vec![list_of(of_list.clone()), of_list]);
    }
    list_and_element(types)
}

fn lists(types: &[DataType]) -> Result<Vec<DataType>> {
    let elements = types.iter().map(element_of).collect::<Result<Vec<_>>>()?;
    Ok(vec![list_of(common(&elements)?); types.len()])
}

fn list_and_flags(types: &[DataType]) -> Result<Vec<DataType>> {
    list_and(types, &DataType::Boolean, |given| matches!(given, DataType::Boolean | DataType::Null))
}

fn list_and_places(types: &[DataType]) -> Result<Vec<DataType>> {
    list_and(types, &DataType::Int64, |given| given.is_integer() || given.is_null())
}

fn list_and(types: &[DataType], wanted: &DataType, fits: fn(&DataType) -> bool) -> Result<Vec<DataType>> {
    let Some((list, rest)) = types.split_first() else { return wrong("an array is missing") };
    if let Some(other) = rest.iter().find(|given| !fits(given)) {
        return wrong(format!("this function takes {} behind the array, not {}", sql_name(wanted), sql_name(other)));
    }
    Ok(std::iter::once(list_of(element_of(list)?)).chain(rest.iter().map(|_| wanted.clone())).collect())
}

/// The elements of a row.
fn range(list: &ListArray, row: usize) -> Range<usize> {
    elements(list.value_offsets(), row)
}

/// Compares elements with the second argument; two NULLs are equal.
fn with_element(args: &Args) -> Result<(ListArray, DynComparator)> {
    let (list, element) = (args.full(0)?.as_list::<i32>().clone(), args.full(1)?);
    let (values, element) = (canonical_floats(list.values()), canonical_floats(&element));
    let comparator = make_comparator(&values, &element, SortOptions::default())?;
    Ok((list, comparator))
}

fn contains(args: &Args) -> Result<ArrayRef> {
    let (list, compare) = with_element(args)?;
    let found = (0..args.rows).map(|row| {
        list.is_valid(row).then(|| range(&list, row).any(|element| compare(element, row) == Ordering::Equal))
    });
    Ok(Arc::new(found.collect::<arrow::array::BooleanArray>()))
}

/// The place of the first such element; 0 without one, NULL for a NULL element.
fn position(args: &Args) -> Result<ArrayRef> {
    let (list, compare) = with_element(args)?;
    let element = args.full(1)?;
    build_numbers::<Int32Type>(args.rows, |row| {
        if list.is_null(row) || element.is_null(row) {
            return Ok(None);
        }
        let place = range(&list, row).position(|element| compare(element, row) == Ordering::Equal);
        place.map_or(Ok(Some(0)), |place| match i32::try_from(place + 1) {
            Ok(place) => Ok(Some(place)),
            Err(_) => failed("an array has more elements than INT counts"),
        })
    })
}

fn remove(args: &Args) -> Result<ArrayRef> {
    let (list, compare) = with_element(args)?;
    let kept = |row| range(&list, row).filter(|element| compare(*element, row) != Ordering::Equal).collect();
    pick(&list, list.values(), list.nulls().cloned(), kept)
}

fn append(args: &Args) -> Result<ArrayRef> {
    add(args, |mut elements, added| {
        elements.push(added);
        elements
    })
}

fn prepend(args: &Args) -> Result<ArrayRef> {
    add(args, |mut elements, added| {
        elements.insert(0, added);
        elements
    })
}

fn add(args: &Args, order: fn(Vec<usize>, usize) -> Vec<usize>) -> Result<ArrayRef> {
    let (list, element) = (args.full(0)?.as_list::<i32>().clone(), args.full(1)?);
    let values = concat(&[list.values().as_ref(), element.as_ref()])?;
    let added = list.values().len();
    pick(&list, &values, list.nulls().cloned(), |row| order(range(&list, row).collect(), added + row))
}

fn concatenate(args: &Args) -> Result<ArrayRef> {
    let arrays = (0..args.len()).map(|index| args.full(index)).collect::<Result<Vec<_>>>()?;
    let lists: Vec<&ListArray> = arrays.iter().map(|array| array.as_list::<i32>()).collect();
    let Some(first) = lists.first() else { return wrong("an array is missing") };
    let values = concat(&lists.iter().map(|list| list.values().as_ref()).collect::<Vec<_>>())?;
    let nulls = lists.iter().fold(None, |nulls, list| NullBuffer::union(nulls.as_ref(), list.nulls()));
    pick(first, &values, nulls, |row| {
        let mut before = 0;
        let mut elements = Vec::new();
        for list in &lists {
            elements.extend(range(list, row).map(|element| before + element));
            before += list.values().len();
        }
        elements
    })
}

/// `ARRAY_SORT(a [, ascending [, nulls first]])`: ascending with NULLs first, descending with NULLs last
/// unless said otherwise.
fn sort(args: &Args) -> Result<ArrayRef> {
    let list = args.full(0)?.as_list::<i32>().clone();
    let flags = (1..args.len()).map(|index| args.full(index)).collect::<Result<Vec<_>>>()?;
    let nulls = flags.iter().fold(list.nulls().cloned(), |nulls, flag| NullBuffer::union(nulls.as_ref(), flag.nulls()));
    let flag = |index: usize, row: usize| flags.get(index).map(|flag| flag.as_boolean().value(row));
    let comparator = |descending, nulls_first| {
        make_comparator(list.values(), list.values(), SortOptions { descending, nulls_first })
    };
    let comparators =
        [[comparator(false, false)?, comparator(false, true)?], [comparator(true, false)?, comparator(true, true)?]];
    pick(&list, list.values(), nulls, |row| {
        let ascending = flag(0, row).unwrap_or(true);
        let nulls_first = flag(1, row).unwrap_or(ascending);
        let [ascends, descends] = &comparators;
        let [nulls_last, nulls_before] = if ascending { ascends } else { descends };
        let compare = if nulls_first { nulls_before } else { nulls_last };
        let mut elements: Vec<usize> = range(&list, row).collect();
        elements.sort_by(|a, b| compare(*a, *b));
        elements
    })
}

/// `ARRAY_SLICE(a, start [, end])`: both places included, negative ones counted from the end, 0 the first.
fn slice(args: &Args) -> Result<ArrayRef> {
    let list = args.full(0)?.as_list::<i32>().clone();
    let places = (1..args.len()).map(|index| args.full(index)).collect::<Result<Vec<_>>>()?;
    let nulls =
        places.iter().fold(list.nulls().cloned(), |nulls, place| NullBuffer::union(nulls.as_ref(), place.nulls()));
    let place = |index: usize, row: usize| {
        places.get(index).map(|place| place.as_primitive::<arrow::datatypes::Int64Type>().value(row))
    };
    pick(&list, list.values(), nulls, |row| {
        let elements = range(&list, row);
        let length = i64::try_from(elements.len()).unwrap_or(i64::MAX);
        // Counted from 0.
        let from_start = |place: i64| if place < 0 { place.saturating_add(length) } else { place.max(1) - 1 };
        let first = from_start(place(0, row).unwrap_or(1));
        let last = from_start(place(1, row).unwrap_or(-1));
        let is_inside = |element: &usize| {
            i64::try_from(element - elements.start).is_ok_and(|place| (first..=last).contains(&place))
        };
        elements.clone().filter(is_inside).collect()
    })
}

/// Lists of the type of `like`, whose elements stand at the given places of `values`.
fn pick(
    like: &ListArray,
    values: &ArrayRef,
    nulls: Option<NullBuffer>,
    elements: impl Fn(usize) -> Vec<usize>,
) -> Result<ArrayRef> {
    let DataType::List(field) = like.data_type() else { return wrong("an array lost its type") };
    let rows = like.len();
    let mut lengths = Vec::with_capacity(rows);
    let mut picked: Vec<u32> = Vec::new();
    for row in 0..rows {
        let before = picked.len();
        if nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)) {
            for element in elements(row) {
                match u32::try_from(element) {
                    Ok(element) => picked.push(element),
                    Err(_) => return failed("the arrays of one batch have too many elements"),
                }
            }
        }
        lengths.push(picked.len() - before);
    }
    if i32::try_from(picked.len()).is_err() {
        return failed("the arrays of one batch have too many elements");
    }
    let values = take(values, &UInt32Array::from(picked), None)?;
    Ok(Arc::new(ListArray::try_new(Arc::clone(field), OffsetBuffer::from_lengths(lengths), values, nulls)?))
}
