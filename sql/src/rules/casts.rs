//! Casts that tell calls apart.
//!
//! DataFusion names a call by its text without the casts in it, and refuses `SUM(a)` beside
//! `SUM(CAST(a AS BIGINT))`. Where a SELECT has such calls or groupings, its casts pass the planner as
//! calls of [`KEEP`], which have a name; [`unwrap`] takes them out of the plan again.
//!
//! Casts that may lose something pass DataFusion's simplifier in the same way: it would compare with what stands
//! before the cast, and make `d = 1.00` of `CAST(d AS INT) = 1`. So do computed arguments of aggregates: it would
//! make `SUM(x) + 0.5 * COUNT(x)` of `SUM(x + 0.5)`, with the count in the type of the literal. And of two lists under
//! AND, `x IN (1) AND x IN (2)`, it would make FALSE, where NULL is neither in nor out.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::DataType;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, DataFusionError, Result, ScalarValue};
use datafusion_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion_sql::sqlparser::ast::{
    self, GroupByExpr, Ident, Select, SelectItem, Visit, VisitMut, Visitor, VisitorMut,
};

use super::names::without_casts;
use crate::parse::{call, text};

/// The name of the wrapping call: no user can write it by accident.
pub(crate) const KEEP: &str = "__cast";

/// The function behind [`KEEP`]: its first argument.
pub(crate) fn keep() -> Arc<ScalarUDF> {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(ScalarUDF::new_from_impl(Keep::default())));
    Arc::clone(&FUNCTION)
}

/// Wraps the casts of a SELECT in which only casts tell calls or groupings apart.
pub(crate) fn wrap(select: &mut Select) {
    let mut calls = Calls::default();
    let _ = select.projection.visit(&mut calls);
    let _ = select.having.visit(&mut calls);
    if let GroupByExpr::Expressions(exprs, _) = &select.group_by {
        exprs.iter().for_each(|expr| calls.note(expr));
    }
    if calls.0.values().all(|texts| texts.len() < 2) {
        return;
    }
    for (position, item) in select.projection.iter_mut().enumerate() {
        let before = item.to_string();
        let _ = VisitMut::visit(item, &mut Wrap);
        if let SelectItem::UnnamedExpr(expr) = item
            && expr.to_string() != before
        {
            let alias = Ident::with_quote('`', format!("EXPR${position}"));
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
        }
    }
    let _ = VisitMut::visit(&mut select.having, &mut Wrap);
    let _ = VisitMut::visit(&mut select.group_by, &mut Wrap);
}

/// Texts of calls by their texts without casts.
#[derive(Default)]
struct Calls(BTreeMap<String, Vec<String>>);

impl Calls {
    fn note(&mut self, expr: &ast::Expr) {
        let texts = self.0.entry(without_casts(expr)).or_default();
        let text = expr.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
}

impl Visitor for Calls {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<()> {
        if matches!(expr, ast::Expr::Function(_)) {
            self.note(expr);
        }
        ControlFlow::Continue(())
    }
}

struct Wrap;

impl VisitorMut for Wrap {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
        if let ast::Expr::Cast { data_type, .. } = expr {
            let data_type = text(&data_type.to_string());
            *expr = call(KEEP, vec![expr.clone(), data_type]);
        }
        ControlFlow::Continue(())
    }
}

/// Takes the wrapping out of a plan; columns keep their names.
pub(crate) fn unwrap(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| {
        let node = super::node_expressions(node, shown)?;
        if node.transformed { node.map_data(LogicalPlan::recompute_schema) } else { Ok(node) }
    })
    .map(|plan| plan.data)
}

/// The same for one expression.
pub(crate) fn shown(expr: Expr) -> Result<Transformed<Expr>> {
    expr.transform_up(|e| match e {
        Expr::ScalarFunction(mut function) if function.name() == KEEP => {
            function.args.truncate(1);
            let inner = function.args.pop();
            inner.map(Transformed::yes).ok_or_else(|| DataFusionError::Internal("a cast was lost".to_owned()))
        }
        other => Ok(Transformed::no(other)),
    })
}

/// Wraps the planned casts that may lose something, and computed arguments of aggregates.
pub(crate) fn hide(plan: LogicalPlan) -> Result<LogicalPlan> {
    super::each_expression(plan, hidden)
}

/// The same for one expression over `schema`.
pub(crate) fn hidden(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| {
        let expr = match expr {
            Expr::AggregateFunction(mut function) => {
                let computed = function.params.args.iter_mut().filter(|arg| matches!(arg, Expr::BinaryExpr(_)));
                let changed = computed.map(|arg| *arg = kept(std::mem::take(arg))).count() > 0;
                return Ok(Transformed::new_transformed(Expr::AggregateFunction(function), changed));
            }
            Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
                let right = lists_apart(&left, *right, op)?;
                let both = BinaryExpr { left, op, right: Box::new(right.data) };
                return Ok(Transformed::new_transformed(Expr::BinaryExpr(both), right.transformed));
            }
            other => other,
        };
        let (inner, to) = match &expr {
            Expr::Cast(cast) => (&cast.expr, &cast.field),
            Expr::TryCast(cast) => (&cast.expr, &cast.field),
            _ => return Ok(Transformed::no(expr)),
        };
        if !inner.get_type(schema).is_ok_and(|from| loses(&from, to.data_type())) {
            return Ok(Transformed::no(expr));
        }
        Ok(Transformed::yes(kept(expr)))
    })
}

/// Wraps lists in `right` of what has one in `left` too, where the simplifier might intersect the two.
fn lists_apart(left: &Expr, right: Expr, op: Operator) -> Result<Transformed<Expr>> {
    let is_in_left = |value: &Expr| left.exists(|part| Ok(listed(part, op).is_some_and(|other| other == value)));
    right.transform_down(|part| {
        let is_in_both = match listed(&part, op) {
            Some(value) => is_in_left(value)?,
            None => false,
        };
        let kept = if is_in_both {
            Transformed::new(kept(part), true, TreeNodeRecursion::Jump)
        } else {
            Transformed::no(part)
        };
        Ok(kept)
    })
}

/// What a list under AND or OR is one of. `x = 1 OR …` is the begin of one.
fn listed(expr: &Expr, op: Operator) -> Option<&Expr> {
    match expr {
        Expr::InList(list) if op == Operator::And || list.negated => Some(&list.expr),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) if op == Operator::And => {
            match (left.as_ref(), right.as_ref()) {
                (value, Expr::Literal(..)) | (Expr::Literal(..), value) => Some(value),
                _ => None,
            }
        }
        _ => None,
    }
}

fn kept(expr: Expr) -> Expr {
    keep().call(vec![expr, Expr::Literal(ScalarValue::Null, None)])
}

/// Whether two values may come out of a cast as one, or one as none.
fn loses(from: &DataType, to: &DataType) -> bool {
    let digits_of = |data_type: &DataType| match data_type {
        DataType::Int8 => Some((3, 0)),
        DataType::Int16 => Some((5, 0)),
        DataType::Int32 => Some((10, 0)),
        DataType::Int64 => Some((19, 0)),
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            Some((i16::from(*precision) - i16::from(*scale), i16::from(*scale)))
        }
        _ => None,
    };
    match (digits_of(from), digits_of(to)) {
        (Some((whole, fraction)), Some((to_whole, to_fraction))) => to_whole < whole || to_fraction < fraction,
        // The simplifier cuts the literal to the digits of the column.
        _ => matches!((from, to), (DataType::Timestamp(from, _), DataType::Timestamp(to, _)) if from != to),
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Keep {
    signature: Signature,
}

impl Default for Keep {
    fn default() -> Self {
        Self { signature: Signature::any(2, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Keep {
    fn name(&self) -> &str {
        KEEP
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        types.first().cloned().ok_or_else(|| DataFusionError::Internal("a cast was lost".to_owned()))
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        args.args.truncate(1);
        args.args.pop().ok_or_else(|| DataFusionError::Internal("a cast was lost".to_owned()))
    }
}
