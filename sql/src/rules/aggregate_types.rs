//! Aggregates have Flink's result types.
//!
//! | call | type |
//! |---|---|
//! | `AVG` of an integer | the integer type; the sum divided by the count, truncated |
//! | `AVG(FLOAT)` | `FLOAT` |
//! | `AVG(DECIMAL(p, s))` | `DECIMAL(38, max(s, 6))`, rounded half up |
//! | `SUM` of an integer or `FLOAT` | the argument's type |
//! | `SUM(DECIMAL(p, s))` | `DECIMAL(38, s)`; a sum beyond it fails |
//! | `APPROX_COUNT_DISTINCT` and others that count unsigned | `BIGINT` |

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion_common::{Column, DFSchema, Result};
use datafusion_expr::expr::{AggregateFunction, NullTreatment};
use datafusion_expr::logical_plan::Aggregate;
use datafusion_expr::{BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, Operator, Projection};

/// Precision that Flink gives to sums and averages of decimals.
const PRECISION: u8 = 38;
/// A sum of so many digits cannot be wrong: 128 bits hold more than ten milliards of such values.
const SUM_PRECISION: u8 = 28;
/// Least scale of an average.
const AVERAGE_SCALE: i8 = 6;

/// The aggregation with a projection that makes these types of what DataFusion's functions give. Its arguments have
/// their types.
pub(super) fn retype(aggregate: Aggregate) -> Result<LogicalPlan> {
    let schema = Arc::clone(aggregate.input.schema());
    let mut calls: Vec<Expr> = Vec::new();
    let mut results: Vec<Expr> = Vec::new();
    let mut changed = false;
    let groups = aggregate.schema.fields().len() - aggregate.aggr_expr.len();
    for (qualifier, field) in aggregate.schema.iter().take(groups) {
        results.push(Expr::from((qualifier, field)));
    }
    for (expr, (qualifier, field)) in aggregate.aggr_expr.iter().zip(aggregate.schema.iter().skip(groups)) {
        let (call, name) = unaliased(expr);
        let converted = match call {
            Expr::AggregateFunction(function) => convert(function, &schema, &mut calls)?,
            _ => None,
        };
        match converted {
            Some(result) => {
                changed = true;
                results.push(result.alias_qualified(qualifier.cloned(), field.name()));
            }
            None => {
                let column = add(&mut calls, call.clone());
                let renamed = name.is_some() || column.name != *field.name();
                changed |= renamed;
                let column = Expr::Column(column);
                results.push(if renamed { column.alias_qualified(qualifier.cloned(), field.name()) } else { column });
            }
        }
    }
    if !changed {
        return Ok(LogicalPlan::Aggregate(aggregate));
    }
    let input = Aggregate::try_new(aggregate.input, aggregate.group_expr, calls)?;
    Projection::try_new(results, Arc::new(LogicalPlan::Aggregate(input))).map(LogicalPlan::Projection)
}

/// The result of `function` as an expression over aggregates that are added to `calls`; `None`: its type
/// is right as it is.
fn convert(function: &AggregateFunction, schema: &DFSchema, calls: &mut Vec<Expr>) -> Result<Option<Expr>> {
    let [argument] = function.params.args.as_slice() else { return Ok(None) };
    let data_type = argument.get_type(schema)?;
    let plain = |calls: &mut Vec<Expr>| Expr::Column(add(calls, Expr::AggregateFunction(function.clone())));
    // There are no unsigned types in SQL: a count of distinct values is BIGINT.
    if Expr::AggregateFunction(function.clone()).get_type(schema).is_ok_and(|t| t == DataType::UInt64) {
        return Ok(Some(cast(plain(calls), DataType::Int64)));
    }
    match (function.func.name(), &data_type) {
        ("avg", DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64) => {
            let sum = named(function, "sum");
            let count = named(function, "count");
            let (Some(sum), Some(count)) = (sum, count) else { return Ok(None) };
            let quotient = Expr::BinaryExpr(BinaryExpr::new(
                Box::new(Expr::Column(add(calls, sum))),
                Operator::Divide,
                Box::new(Expr::Column(add(calls, count))),
            ));
            Ok(Some(cast(quotient, data_type)))
        }
        ("avg" | "sum", DataType::Float32) => Ok(Some(cast(plain(calls), DataType::Float32))),
        ("avg", DataType::Decimal128(precision, scale)) => {
            let (Some(sum), Some(count)) = (named(function, "sum"), named(function, "count")) else { return Ok(None) };
            let sum = wide(sum, *precision, *scale);
            // `rules::decimals` makes this the division that rounds.
            let quotient = Expr::BinaryExpr(BinaryExpr::new(
                Box::new(cast(Expr::Column(add(calls, sum)), DataType::Decimal128(PRECISION, *scale))),
                Operator::Divide,
                Box::new(Expr::Column(add(calls, count))),
            ));
            Ok(Some(cast(quotient, DataType::Decimal128(PRECISION, (*scale).max(AVERAGE_SCALE)))))
        }
        ("sum", DataType::Int8 | DataType::Int16 | DataType::Int32) => Ok(Some(cast(plain(calls), data_type))),
        ("sum", DataType::Decimal128(precision, scale)) => {
            let wanted = DataType::Decimal128(PRECISION, *scale);
            let call = wide(Expr::AggregateFunction(function.clone()), *precision, *scale);
            if call.get_type(schema)? == wanted {
                Ok(None)
            } else {
                Ok(Some(cast(Expr::Column(add(calls, call)), wanted)))
            }
        }
        _ => Ok(None),
    }
}

/// The same call of another function.
fn named(function: &AggregateFunction, name: &str) -> Option<Expr> {
    let func = crate::functions::registry().aggregate(name)?;
    let mut params = function.params.clone();
    // Order does not matter to a sum or a count.
    params.order_by = Vec::new();
    params.null_treatment = None::<NullTreatment>;
    Some(Expr::AggregateFunction(AggregateFunction { func, params }))
}

/// The call over 256 bits where a sum of decimals of the precision might overflow 128 without a word.
fn wide(call: Expr, precision: u8, scale: i8) -> Expr {
    match call {
        Expr::AggregateFunction(mut function) if precision > SUM_PRECISION => {
            for argument in &mut function.params.args {
                *argument = cast(std::mem::take(argument), DataType::Decimal256(precision, scale));
            }
            Expr::AggregateFunction(function)
        }
        other => other,
    }
}

/// Adds a call once; returns its column. Calls that differ by casts alone have one name to DataFusion:
/// every later one gets another.
fn add(calls: &mut Vec<Expr>, call: Expr) -> Column {
    let named = |call: &Expr| Column::new_unqualified(call.schema_name().to_string());
    if let Some(known) = calls.iter().find(|known| unaliased(known).0 == &call) {
        return named(known);
    }
    let mut column = named(&call);
    if calls.iter().any(|other| named(other) == column) {
        column.name = format!("{} #{}", column.name, calls.len());
        calls.push(call.alias(&column.name));
    } else {
        calls.push(call);
    }
    column
}

fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast(Cast::new(Box::new(expr), data_type))
}

fn unaliased(expr: &Expr) -> (&Expr, Option<&str>) {
    match expr {
        Expr::Alias(alias) => (unaliased(&alias.expr).0, Some(alias.name.as_str())),
        other => (other, None),
    }
}
