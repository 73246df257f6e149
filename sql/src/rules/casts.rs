//! Casts that tell calls apart.
//!
//! DataFusion names a call by its text without the casts in it, and refuses `SUM(a)` beside
//! `SUM(CAST(a AS BIGINT))`. Where a SELECT has such calls or groupings, its casts pass the planner as
//! calls of [`KEEP`], which have a name; [`unwrap`] takes them out of the plan again.
//! [`super::hidden`] uses it too.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::DataType;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DataFusionError, Result, ScalarValue};
use datafusion_expr::{
    ColumnarValue, Expr, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
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

/// An expression in the wrapping.
pub(super) fn kept(expr: Expr) -> Expr {
    keep().call(vec![expr, Expr::Literal(ScalarValue::Null, None)])
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

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        self.schema_name(args)
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(match args {
            [value, Expr::Literal(ScalarValue::Utf8(Some(to)), _)] => format!("CAST({} AS {to})", value.schema_name()),
            [value, ..] => value.schema_name().to_string(),
            [] => String::new(),
        })
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
