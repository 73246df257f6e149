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
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, DFSchema, Result};
use datafusion_expr::expr::{AggregateFunction, NullTreatment, WindowFunction, WindowFunctionParams};
use datafusion_expr::logical_plan::{Aggregate, Window};
use datafusion_expr::{
    BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, Operator, Projection, WindowFunctionDefinition,
};

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

/// The same for aggregates OVER the rows before each row.
pub(super) fn retype_over(window: Window) -> Result<LogicalPlan> {
    let schema = Arc::clone(window.input.schema());
    let width = schema.fields().len();
    let mut results: Vec<Expr> = schema.iter().map(|(qualifier, field)| Expr::from((qualifier, field))).collect();
    let (mut exprs, mut changed) = (Vec::new(), false);
    for (position, (expr, (qualifier, field))) in
        window.window_expr.iter().zip(window.schema.iter().skip(width)).enumerate()
    {
        let (call, _) = unaliased(expr);
        let over = match call {
            Expr::WindowFunction(over) => Some(over),
            _ => None,
        };
        let aggregate = over.and_then(|over| Some((over, aggregate_of(over)?)));
        let mut calls = Vec::new();
        let converted = match &aggregate {
            Some((_, function)) => convert(function, &schema, &mut calls)?,
            None => None,
        };
        let (Some(result), Some((over, _))) = (converted, aggregate) else {
            exprs.push(expr.clone());
            results.push(Expr::from((qualifier, field)));
            continue;
        };
        changed = true;
        // Each has a name of its own: calls that are alike may be over other frames.
        let name = |call: &str| format!("{call} over {position}");
        for call in calls {
            let (call, known) = (unaliased(&call).0.clone(), unaliased(&call).1.map(str::to_owned));
            let known = known.unwrap_or_else(|| call.schema_name().to_string());
            exprs.push(over_of(call, over).alias(name(&known)));
        }
        let result = result.transform_up(|part| match part {
            Expr::Column(column) if column.relation.is_none() => {
                Ok(Transformed::yes(Expr::Column(Column::new_unqualified(name(&column.name)))))
            }
            other => Ok(Transformed::no(other)),
        })?;
        results.push(result.data.alias_qualified(qualifier.cloned(), field.name()));
    }
    if !changed {
        return Ok(LogicalPlan::Window(window));
    }
    let window = Window::try_new(exprs, window.input)?;
    Projection::try_new(results, Arc::new(LogicalPlan::Window(window))).map(LogicalPlan::Projection)
}

/// The aggregate that is taken over a frame; None for other functions.
pub(crate) fn aggregate_of(over: &WindowFunction) -> Option<AggregateFunction> {
    let WindowFunctionDefinition::AggregateUDF(func) = &over.fun else { return None };
    let WindowFunctionParams { args, filter, distinct, null_treatment, .. } = over.params.clone();
    Some(AggregateFunction::new_udf(Arc::clone(func), args, distinct, filter, Vec::new(), null_treatment))
}

/// An aggregate over the frame of `over`.
fn over_of(call: Expr, over: &WindowFunction) -> Expr {
    match call {
        Expr::AggregateFunction(AggregateFunction { func, params }) => {
            let fun = WindowFunctionDefinition::AggregateUDF(func);
            let params = WindowFunctionParams { args: params.args, ..over.params.clone() };
            Expr::WindowFunction(Box::new(WindowFunction { fun, params }))
        }
        other => other,
    }
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
