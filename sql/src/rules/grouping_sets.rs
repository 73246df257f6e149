//! `GROUPING SETS`, `CUBE` and `ROLLUP`: the rows of one aggregation for each set, with NULL for the keys that the set
//! does not have, and `GROUPING(k)` as the number that it is of that set.

use std::sync::Arc;

use datafusion_common::tree_node::Transformed;
use datafusion_common::{DataFusionError, Result, ScalarValue};
use datafusion_expr::expr::AggregateFunction;
use datafusion_expr::utils::grouping_set_to_exprlist;
use datafusion_expr::{Aggregate, Expr, GroupingSet, LogicalPlan, Projection, Union, lit};
use datafusion_functions_aggregate::count::count_all;

/// Sets of one aggregation at most: each is one of its own.
const SETS_MAX: usize = 256;

pub(crate) fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| {
        let node = node.recompute_schema()?;
        let LogicalPlan::Aggregate(aggregate) = &node else { return Ok(Transformed::yes(node)) };
        let has_sets = aggregate.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_)));
        if !has_sets && !aggregate.aggr_expr.iter().any(|expr| grouping_of(expr).is_some()) {
            return Ok(Transformed::yes(node));
        }
        one_by_one(aggregate).map(Transformed::yes)
    })
    .map(|t| t.data)
}

fn one_by_one(aggregate: &Aggregate) -> Result<LogicalPlan> {
    let keys = grouping_set_to_exprlist(&aggregate.group_expr)?;
    for key in aggregate.aggr_expr.iter().filter_map(grouping_of).flatten() {
        if !keys.contains(&key) {
            return Err(DataFusionError::Plan(format!("GROUPING takes keys of the GROUP BY, and `{key}` is none")));
        }
    }
    let mut sets = match aggregate.group_expr.as_slice() {
        [Expr::GroupingSet(set)] => sets_of(set)?,
        keys => vec![keys.to_vec()],
    };
    if sets.len() > SETS_MAX {
        return Err(DataFusionError::Plan(format!("{} grouping sets are more than {SETS_MAX}", sets.len())));
    }
    for set in &mut sets {
        let all = std::mem::take(set);
        for key in all {
            if !set.contains(&key) {
                set.push(key);
            }
        }
    }
    let parts = sets.iter().map(|set| of_set(aggregate, &keys, set).map(Arc::new)).collect::<Result<Vec<_>>>()?;
    let [_, _, ..] = parts.as_slice() else {
        return parts
            .into_iter()
            .next()
            .map(Arc::unwrap_or_clone)
            .ok_or_else(|| DataFusionError::Plan("GROUPING SETS without a set".to_owned()));
    };
    let union = LogicalPlan::Union(Union::try_new_with_loose_types(parts)?);
    let names = names(aggregate, keys.len());
    let columns = union
        .schema()
        .iter()
        .zip(names)
        .map(|(column, (qualifier, name))| Expr::from(column).alias_qualified(qualifier, name));
    let columns = columns.collect();
    Projection::try_new(columns, Arc::new(union)).map(LogicalPlan::Projection)
}

/// Qualifiers and names of the keys, then of the calls: what those who read the aggregation call them.
fn names(aggregate: &Aggregate, keys: usize) -> Vec<(Option<datafusion_common::TableReference>, String)> {
    let all = aggregate.schema.iter().map(|(qualifier, field)| (qualifier.cloned(), field.name().clone()));
    let all: Vec<_> = all.collect();
    // Between them stands the number of the set, if there are several.
    let calls = all.len() - aggregate.aggr_expr.len();
    all.iter().take(keys).chain(all.iter().skip(calls)).cloned().collect()
}

/// The rows of one set.
fn of_set(aggregate: &Aggregate, keys: &[&Expr], set: &[Expr]) -> Result<LogicalPlan> {
    let mut calls: Vec<Expr> = aggregate.aggr_expr.iter().filter(|expr| grouping_of(expr).is_none()).cloned().collect();
    if calls.is_empty() && set.is_empty() {
        // One row of nothing but NULLs has to be of something.
        calls.push(count_all());
    }
    let part = Aggregate::try_new(Arc::clone(&aggregate.input), set.to_vec(), calls)?;
    let schema = Arc::clone(&part.schema);
    let column = |at: usize| Expr::from(schema.qualified_field(at));
    let names = names(aggregate, keys.len());
    let mut next_call = set.len();
    let mut columns = Vec::new();
    for (at, (qualifier, name)) in names.into_iter().enumerate() {
        let expr = match (keys.get(at), at.checked_sub(keys.len()).and_then(|call| aggregate.aggr_expr.get(call))) {
            (Some(key), _) => match set.iter().position(|other| other == *key) {
                Some(place) => column(place),
                None => Expr::Literal(ScalarValue::try_from(aggregate.schema.field(at).data_type())?, None),
            },
            (None, Some(call)) => match grouping_of(call) {
                Some(arguments) => {
                    lit(arguments.iter().fold(0_i64, |bits, key| bits << 1 | i64::from(!set.contains(key))))
                }
                None => {
                    next_call += 1;
                    column(next_call - 1)
                }
            },
            (None, None) => return Err(DataFusionError::Internal("an aggregation with too many columns".to_owned())),
        };
        columns.push(expr.alias_qualified(qualifier, name));
    }
    Projection::try_new(columns, Arc::new(LogicalPlan::Aggregate(part))).map(LogicalPlan::Projection)
}

/// The arguments of a call of GROUPING.
fn grouping_of(expr: &Expr) -> Option<&[Expr]> {
    match expr {
        Expr::Alias(alias) => grouping_of(&alias.expr),
        Expr::AggregateFunction(AggregateFunction { func, params }) if func.name() == "grouping" => Some(&params.args),
        _ => None,
    }
}

fn sets_of(set: &GroupingSet) -> Result<Vec<Vec<Expr>>> {
    Ok(match set {
        GroupingSet::GroupingSets(sets) => sets.clone(),
        GroupingSet::Rollup(keys) => (0..=keys.len()).rev().map(|count| keys[..count].to_vec()).collect(),
        GroupingSet::Cube(keys) => {
            if keys.len() >= 10 {
                return Err(DataFusionError::Plan(format!("CUBE of {} keys is too large", keys.len())));
            }
            let chosen = |bits: usize| {
                let keys = keys.iter().enumerate().filter(move |(at, _)| bits >> (keys.len() - 1 - at) & 1 == 1);
                keys.map(|(_, key)| key.clone()).collect()
            };
            (0..1_usize << keys.len()).rev().map(chosen).collect()
        }
    })
}
