//! Names for output columns that would collide.
//!
//! DataFusion names an unnamed expression by its text without casts and refuses a SELECT in which two
//! come out equal. In Flink columns of a query may be equal expressions; those after the first get
//! Flink's own name for an expression without one, `EXPR$` and the position.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{Expr, Ident, Query, SelectItem, SetExpr, VisitMut, VisitorMut};

/// Gives every later of several equal, unnamed columns a name of its own, in all SELECTs of a query.
pub(crate) fn name_apart(query: &mut Query) {
    let _ = query.visit(&mut Queries);
}

struct Queries;

impl VisitorMut for Queries {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        name_columns(&mut query.body);
        ControlFlow::Continue(())
    }
}

fn name_columns(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => {
            let mut seen = BTreeSet::new();
            for (position, item) in select.projection.iter_mut().enumerate() {
                let SelectItem::UnnamedExpr(expr) = item else { continue };
                if !seen.insert(name_of(expr)) {
                    let alias = Ident::with_quote('`', format!("EXPR${position}"));
                    *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
                }
            }
        }
        SetExpr::SetOperation { left, right, .. } => {
            name_columns(left);
            name_columns(right);
        }
        // A nested query is visited as a query.
        _ => {}
    }
}

/// What the planner would call the column: its text without casts, a column without its table.
fn name_of(expr: &Expr) -> String {
    let mut expr = expr.clone();
    let _ = expr.visit(&mut WithoutCasts);
    match &expr {
        Expr::CompoundIdentifier(parts) => parts.last().map(ToString::to_string).unwrap_or_default(),
        other => other.to_string(),
    }
}

struct WithoutCasts;

impl VisitorMut for WithoutCasts {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Cast { expr: inner, .. } | Expr::Nested(inner) = expr {
            *expr = inner.as_ref().clone();
        }
        ControlFlow::Continue(())
    }
}
