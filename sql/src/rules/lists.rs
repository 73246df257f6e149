//! `x IN (a, f(b))` with anything but literals in the list is `x = a OR x = f(b)`.
//!
//! DataFusion looks at the list once, over no rows, to see whether it is constant; a CASE without an ELSE
//! seems to be NULL then. Runs after type coercion, so that both sides have one type.

use datafusion_common::Result;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_expr::expr::InList;
use datafusion_expr::{Expr, LogicalPlan, lit, not};

pub(crate) fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    super::each_expression(plan, |expr, _| expression(expr))
}

/// The same for one expression.
pub(crate) fn expression(expr: Expr) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| match expr {
        Expr::InList(InList { expr, list, negated }) if list.iter().any(|item| !matches!(item, Expr::Literal(..))) => {
            let equalities = list.into_iter().map(|item| expr.as_ref().clone().eq(item)).collect();
            let any = either(equalities).unwrap_or_else(|| lit(false));
            Ok(Transformed::yes(if negated { not(any) } else { any }))
        }
        other => Ok(Transformed::no(other)),
    })
}

/// All of them joined by OR, in a tree that is no deeper than it must be.
fn either(mut exprs: Vec<Expr>) -> Option<Expr> {
    while exprs.len() > 1 {
        let mut pairs = Vec::with_capacity(exprs.len().div_ceil(2));
        let mut rest = exprs.into_iter();
        while let Some(left) = rest.next() {
            pairs.push(match rest.next() {
                Some(right) => left.or(right),
                None => left,
            });
        }
        exprs = pairs;
    }
    exprs.pop()
}
