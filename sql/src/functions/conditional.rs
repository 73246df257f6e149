//! `IF`, `COALESCE`, `NULLIF`, and `GREATEST` and `LEAST` as Flink has them: NULL if any argument is.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, make_comparator};
use arrow::buffer::NullBuffer;
use arrow::compute::kernels::{cmp, zip};
use arrow::compute::{SortOptions, is_not_null};
use arrow::datatypes::DataType;
use datafusion_common::Result;
use datafusion_expr::type_coercion::binary::{comparison_coercion, type_union_resolution};
use datafusion_expr::{Expr, ScalarUDF};

use super::define::{Args, Function, Kind, build_text, text_type, wrong};
use crate::types::{common_time, sql_name, unit_of_day};

/// The name of the function of which [`crate::expr`] looks at an argument only where those before it are NULL.
pub(crate) const COALESCE: &str = "coalesce";

pub(super) fn functions() -> Vec<ScalarUDF> {
    use Kind::{Any, Boolean};
    let first = |types: &[DataType]| types.first().cloned().map_or_else(|| wrong("an argument is missing"), Ok);
    let second = |types: &[DataType]| types.get(1).cloned().map_or_else(|| wrong("an argument is missing"), Ok);
    vec![
        Function::new("if", &[Boolean, Any, Any], second, choose).coerce(choose_types).rewrite(lazy_if).build(),
        Function::new(COALESCE, &[Any], first, first_not_null)
            .variadic()
            .alias("ifnull")
            .alias("nvl")
            .coerce(common_types)
            .choosing()
            .build(),
        Function::new("nullif", &[Any, Any], first, null_if).coerce(common_types).build(),
        Function::new("typeof", &[Any], text_type, type_name).build(),
        Function::new("greatest", &[Any], first, |args| extreme(args, true)).variadic().coerce(common_types).build(),
        Function::new("least", &[Any], first, |args| extreme(args, false)).variadic().coerce(common_types).build(),
    ]
}

fn type_name(args: &Args) -> Result<ArrayRef> {
    let name = sql_name(args.raw(0)?.0.data_type());
    build_text(args.rows, |_, out| {
        out.push_str(&name);
        Ok(Some(()))
    })
}

/// All arguments as their common type.
fn common_types(types: &[DataType]) -> Result<Vec<DataType>> {
    let common = match types {
        [] => None,
        [one] => Some(one.clone()),
        [a, b] if a == b => Some(a.clone()),
        _ if types.iter().all(|t| t.is_null() || unit_of_day(t).is_some()) => {
            common_time(types.iter()).or_else(|| types.iter().find(|t| !t.is_null()).cloned())
        }
        [a, b] => type_union_resolution(types).or_else(|| comparison_coercion(a, b)),
        _ => type_union_resolution(types),
    };
    match common {
        Some(common) => Ok(vec![common; types.len()]),
        None => {
            let names: Vec<String> = types.iter().map(sql_name).collect();
            wrong(format!("no type is common to {}", names.join(", ")))
        }
    }
}

fn choose_types(types: &[DataType]) -> Result<Vec<DataType>> {
    let [condition, rest @ ..] = types else { return wrong("IF takes a condition and two values") };
    if !matches!(condition, DataType::Boolean | DataType::Null) {
        return wrong(format!("the condition of IF is {}, not BOOLEAN", sql_name(condition)));
    }
    Ok(std::iter::once(DataType::Boolean).chain(common_types(rest)?).collect())
}

/// A condition that is NULL chooses the second value.
fn choose(args: &Args) -> Result<ArrayRef> {
    let conditions = args.full(0)?;
    let conditions = conditions.as_boolean();
    let chosen = match conditions.nulls() {
        None => conditions.clone(),
        Some(nulls) => BooleanArray::new(conditions.values() & nulls.inner(), None),
    };
    Ok(zip::zip(&chosen, &args.full(1)?, &args.full(2)?)?)
}

fn first_not_null(args: &Args) -> Result<ArrayRef> {
    let mut found = args.full(0)?;
    for index in 1..args.len() {
        found = zip::zip(&is_not_null(&found)?, &found, &args.full(index)?)?;
    }
    Ok(found)
}

fn null_if(args: &Args) -> Result<ArrayRef> {
    let (value, other) = (args.full(0)?, args.full(1)?);
    let equal = if value.data_type().is_nested() {
        let order = make_comparator(&value, &other, SortOptions::default())?;
        (0..args.rows).map(|row| Some(order(row, row) == Ordering::Equal)).collect()
    } else {
        cmp::eq(&value, &other)?
    };
    Ok(arrow::compute::nullif(&value, &equal)?)
}

/// `IF(c, a, b)` as CASE.
fn lazy_if(args: Vec<Expr>) -> Result<Expr> {
    let [condition, yes, no]: [Expr; 3] = args.try_into().or_else(|_| wrong("IF takes a condition and two values"))?;
    datafusion_expr::when(condition, yes).otherwise(no)
}

fn extreme(args: &Args, greatest: bool) -> Result<ArrayRef> {
    let mut best = args.full(0)?;
    let mut nulls = best.logical_nulls();
    for index in 1..args.len() {
        let other = args.full(index)?;
        nulls = NullBuffer::union(nulls.as_ref(), other.logical_nulls().as_ref());
        let keep = if greatest { cmp::gt_eq(&best, &other)? } else { cmp::lt_eq(&best, &other)? };
        best = zip::zip(&keep, &best, &other)?;
    }
    match nulls {
        None => Ok(best),
        Some(nulls) => {
            let missing = BooleanArray::new(!nulls.inner(), None);
            Ok(arrow::compute::nullif(&best, &missing)?)
        }
    }
}
