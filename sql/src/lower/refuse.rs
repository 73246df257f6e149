//! What cannot run as a stream yet, said plainly: a code, the place in the text and what to do instead.

use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_expr::logical_plan::Sort;
use datafusion_expr::{Expr, LogicalPlan};
use qanat_proto::error::{Code, Error, Place, Result};

use super::relation::Relation;

/// Place of the first column in `exprs` that has one.
pub(crate) fn place_of<'e>(exprs: impl IntoIterator<Item = &'e Expr>) -> Option<Place> {
    let mut place = None;
    for expr in exprs {
        // A closure that only stops or goes on does not fail.
        let _ = expr.apply(|e| {
            if let Expr::Column(column) = e
                && let Some(span) = column.spans.first()
            {
                place = Some(Place::Sql { line: span.start.line, column: span.start.column });
                return Ok(TreeNodeRecursion::Stop);
            }
            Ok(TreeNodeRecursion::Continue)
        });
        if place.is_some() {
            break;
        }
    }
    place
}

/// Sets the place if it is known.
pub(crate) fn placed(error: Error, place: Option<Place>) -> Error {
    match place {
        Some(place) => error.or_at(|| place),
        None => error,
    }
}

pub(crate) fn unsupported(what: &str, plan: &LogicalPlan) -> Error {
    let error = Error::new(Code::SqlUnsupported, format!("{what} is not supported yet"));
    placed(error, place_of(&plan.expressions()))
}

/// Rows that may be taken back, where that is not supported yet.
///
/// # Errors
/// E0115 if they may be.
pub(crate) fn changelog(relation: &Relation, what: &str, place: Option<Place>) -> Result<()> {
    if !relation.is_changelog() {
        return Ok(());
    }
    let message = format!("{what} over rows that may change or be taken back is not supported yet");
    let error = Error::new(Code::ChangelogRefused, message)
        .hint("aggregate, join or rank in a window first, so that rows are final");
    Err(placed(error, place))
}

pub(crate) fn order_by(sort: &Sort) -> Error {
    let error = Error::new(Code::SqlUnsupported, "ORDER BY of a whole stream is not supported")
        .hint("add LIMIT n, or take the first rows of each window: ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY …)");
    placed(error, place_of(sort.expr.iter().map(|s| &s.expr)))
}

pub(crate) fn limit(plan: &LogicalPlan) -> Error {
    let error = Error::new(Code::SqlUnsupported, "LIMIT takes a number above 0, and OFFSET stands with it alone")
        .hint("write LIMIT 10, or LIMIT 10 OFFSET 5");
    placed(error, place_of(&plan.expressions()))
}

/// Subqueries that no rule could turn into a join.
///
/// # Errors
/// E0102 if `expr` holds one.
pub(crate) fn subqueries(expr: &Expr, input: &LogicalPlan) -> Result<()> {
    let mut found = None;
    let _ = expr.apply(|e| {
        let what = match e {
            Expr::ScalarSubquery(subquery) if subquery.outer_ref_columns.is_empty() => {
                Some("a subquery that stands for one value in this place")
            }
            Expr::ScalarSubquery(_) => Some("a subquery that is tied to the rows around it by more than equalities"),
            Expr::InSubquery(_) => Some("IN (subquery) in this place"),
            Expr::Exists(_) => Some("EXISTS in this place"),
            Expr::SetComparison(_) => Some("ANY or ALL of a subquery"),
            Expr::OuterReferenceColumn(..) => Some("a correlated subquery"),
            _ => None,
        };
        found = found.or(what);
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    match found {
        None => Ok(()),
        Some(what) => {
            let error = Error::new(Code::SqlUnsupported, format!("{what} is not supported yet"))
                .hint("join the two in a window, or as a lookup of a bounded table");
            Err(placed(error, place_of([expr]).or_else(|| place_of(&input.expressions()))))
        }
    }
}
