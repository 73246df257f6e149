//! What DataFusion takes at planning and should not: a condition that is no condition, a percentile that is
//! none, the key of another map, the least of values without an order.

use arrow::datatypes::DataType;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, Result, ScalarValue};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::logical_plan::Subquery;
use datafusion_expr::{Expr, ExprSchemable, LogicalPlan};
use qanat_proto::error::{Code, Error};

use crate::functions::entry_types;
use crate::plan::failure::carry;
use crate::types::sql_name;

/// Functions whose arguments have one type: a text beside a number is a mistake, as in Flink.
const OF_ONE_TYPE: &[&str] = &["coalesce", "ifnull", "nvl", "nullif", "greatest", "least"];

/// Functions that give another value for each row and call.
const DRAWN: &[&str] = &["rand", "random", "rand_integer", "uuid"];

/// # Errors
/// E0106 or E0102 for the first such expression.
pub(crate) fn check(plan: LogicalPlan) -> Result<LogicalPlan> {
    super::each_expression(plan, |expr, schema| {
        expression(&expr, schema)?;
        Ok(Transformed::no(expr))
    })
}

/// The same for one expression over `schema`.
pub(crate) fn expression(expr: &Expr, schema: &DFSchema) -> Result<()> {
    expr.apply(|expr| {
        match expr {
            Expr::Case(case) if case.expr.is_none() => {
                let is_boolean = expr.get_type(schema).is_ok_and(|data_type| data_type == DataType::Boolean);
                for (when, _) in &case.when_then_expr {
                    condition(when, schema)?;
                    if is_boolean {
                        drawn_once(when, "a condition")?;
                    }
                }
            }
            Expr::ScalarFunction(call) if call.name() == "if" => {
                let is_boolean = expr.get_type(schema).is_ok_and(|data_type| data_type == DataType::Boolean);
                call.args.first().filter(|_| is_boolean).map_or(Ok(()), |when| drawn_once(when, "a condition"))?;
            }
            Expr::AggregateFunction(call)
                if matches!(call.func.name(), "percentile_cont" | "approx_percentile_cont") =>
            {
                call.params.args.get(1).map_or(Ok(()), percentile)?;
            }
            Expr::AggregateFunction(call) if matches!(call.func.name(), "min" | "max") => {
                call.params.args.first().map_or(Ok(()), |value| ordered(value, call.func.name(), schema))?;
            }
            Expr::WindowFunction(call) => {
                call.params.order_by.iter().try_for_each(|sort| ordered(&sort.expr, "ORDER BY", schema))?;
            }
            Expr::ScalarFunction(call) if OF_ONE_TYPE.contains(&call.name()) => one_type(call, schema)?,
            Expr::Between(between) => drawn_once(&between.expr, "BETWEEN")?,
            Expr::InList(list) => drawn_once(&list.expr, "IN")?,
            Expr::Exists(exists) => without_groups(&exists.subquery)?,
            Expr::InSubquery(within) => without_groups(&within.subquery)?,
            Expr::ScalarFunction(call) if call.name() == "get_field" => {
                if let [map, key] = call.args.as_slice() {
                    map_key(map, key, schema)?;
                }
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map(drop)
}

/// DataFusion would write the value down twice, and have it drawn twice.
fn drawn_once(value: &Expr, place: &str) -> Result<()> {
    let drawn = |expr: &Expr| match expr {
        Expr::ScalarFunction(call) if DRAWN.contains(&call.name()) => Some(call.name().to_uppercase()),
        _ => None,
    };
    let mut found = None;
    value.apply(|part| {
        found = drawn(part);
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    let Some(name) = found else { return Ok(()) };
    let message = format!("{place} of {name}, which gives another value each time, is not supported");
    let hint = format!("name its value first: FROM (SELECT *, {name}(…) AS r FROM t)");
    Err(carry(Error::new(Code::SqlUnsupported, message).hint(hint)))
}

/// DataFusion would cast the texts to numbers.
fn one_type(call: &ScalarFunction, schema: &DFSchema) -> Result<()> {
    let types = call.args.iter().map(|arg| arg.get_type(schema)).collect::<Result<Vec<_>>>()?;
    let number = types.iter().find(|data_type| data_type.is_numeric());
    let (Some(number), true) = (number, types.iter().any(is_text)) else { return Ok(()) };
    let message = format!("{} of a STRING and {} has no type", call.name().to_uppercase(), sql_name(number));
    Err(carry(Error::new(Code::TypeMismatch, message).hint("CAST one to the type of the other")))
}

/// An aggregate without GROUP BY has a row for no rows too, which a join of what is there does not give.
fn without_groups(subquery: &Subquery) -> Result<()> {
    if subquery.outer_ref_columns.is_empty() {
        return Ok(());
    }
    let is_ungrouped = subquery
        .subquery
        .exists(|node| Ok(matches!(node, LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty())))?;
    if !is_ungrouped {
        return Ok(());
    }
    let message = "an aggregate without GROUP BY in a correlated subquery is not supported yet";
    let hint = "aggregate in a view by the columns that are compared, and join it (LEFT JOIN keeps those without rows)";
    Err(carry(Error::new(Code::SqlUnsupported, message).hint(hint)))
}

fn condition(when: &Expr, schema: &DFSchema) -> Result<()> {
    match when.get_type(schema)? {
        DataType::Boolean | DataType::Null => Ok(()),
        other => {
            let message = format!("the condition of a CASE is {}, not BOOLEAN", sql_name(&other));
            Err(carry(Error::new(Code::TypeMismatch, message).hint("compare it with something")))
        }
    }
}

/// DataFusion fails on maps and nested arrays when it runs, and compares rows by some of their fields only.
fn ordered(value: &Expr, function: &str, schema: &DFSchema) -> Result<()> {
    let data_type = value.get_type(schema)?;
    let is_ordered = match &data_type {
        DataType::List(item) => !item.data_type().is_nested(),
        other => !other.is_nested(),
    };
    if is_ordered {
        return Ok(());
    }
    let message = format!("{} takes no {}: it has no order", function.to_uppercase(), sql_name(&data_type));
    Err(carry(Error::new(Code::TypeMismatch, message).hint("take a field or an element of it")))
}

fn percentile(share: &Expr) -> Result<()> {
    let value = match share {
        Expr::Literal(value, _) => value.cast_to(&DataType::Float64).ok(),
        // Its value is known once it is simplified.
        constant if !constant.any_column_refs() => return Ok(()),
        _ => None,
    };
    match value {
        Some(ScalarValue::Float64(Some(share))) if (0.0..=1.0).contains(&share) => Ok(()),
        _ => {
            let message = "the second argument of a percentile must be a number between 0 and 1";
            let hint = "for several percentiles call the function several times";
            Err(carry(Error::new(Code::TypeMismatch, message).hint(hint)))
        }
    }
}

fn map_key(map: &Expr, key: &Expr, schema: &DFSchema) -> Result<()> {
    let map = map.get_type(schema)?;
    let Some((wanted, _)) = entry_types(&map) else { return Ok(()) };
    let found = key.get_type(schema)?;
    let fits = found.is_null() || wanted == &found || is_text(wanted) == is_text(&found);
    if fits {
        return Ok(());
    }
    let message = format!("the key of this map is {}, not {}", sql_name(wanted), sql_name(&found));
    Err(carry(Error::new(Code::TypeMismatch, message).hint(format!("CAST it AS {}", sql_name(wanted)))))
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}
