//! What sqlparser takes and a query must not have: the planner would pass over it, answer something else, or fail
//! without a place.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    BinaryOperator, Distinct, DuplicateTreatment, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Join,
    JoinConstraint, JoinOperator, Query, Select, SelectItem, SetExpr, Spanned, TableFactor, TableWithJoins, Value,
    Visit, Visitor,
};
use datafusion_sql::sqlparser::tokenizer::{Location, Span};
use qanat_proto::{Error, Result};

use super::failure::unsupported;

/// # Errors
/// E0102 for the first such part of a query, whose statement begins at `at`.
pub(super) fn check(query: &Query, at: Location) -> Result<()> {
    match query.visit(&mut Refusals { at }) {
        ControlFlow::Break(error) => Err(*error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Refusals {
    at: Location,
}

impl Refusals {
    fn refuse(&self, what: &str, span: Span, hint: &str) -> ControlFlow<Box<Error>> {
        let at = if span.start.line > 0 { span.start } else { self.at };
        ControlFlow::Break(Box::new(unsupported(format!("{what} is not supported"), at).hint(hint)))
    }

    fn select(&self, select: &Select) -> ControlFlow<Box<Error>> {
        if let Some(Distinct::On(exprs)) = &select.distinct {
            let span = exprs.first().map_or(Span::empty(), Spanned::span);
            return self.refuse(
                "DISTINCT ON",
                span,
                "ROW_NUMBER() in a window, kept up to 1, gives one row of each key",
            );
        }
        let mut joins = Vec::new();
        select.from.iter().for_each(|from| joins_of(from, &mut joins));
        for join in joins {
            let Some(constraint) = named_columns(&join.join_operator) else { continue };
            let span = join.relation.span();
            let what = match constraint {
                JoinConstraint::Natural => "NATURAL",
                _ => "USING",
            };
            if !matches!(join.join_operator, JoinOperator::Join(_) | JoinOperator::Inner(_)) {
                let hint = "write ON a.k = b.k, and COALESCE(a.k, b.k) for the column that both have";
                return self.refuse(&format!("{what} in an outer join"), span, hint);
            }
            if select.projection.iter().any(|item| matches!(item, SelectItem::Wildcard(_))) {
                return self.refuse(
                    &format!("* over a join with {what}"),
                    span,
                    "name the columns, or write ON a.k = b.k",
                );
            }
        }
        ControlFlow::Continue(())
    }
}

/// Those in parentheses too.
fn joins_of<'a>(from: &'a TableWithJoins, joins: &mut Vec<&'a Join>) {
    for relation in std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation)) {
        if let TableFactor::NestedJoin { table_with_joins, .. } = relation {
            joins_of(table_with_joins, joins);
        }
    }
    joins.extend(&from.joins);
}

/// The constraint of a join that names columns of both sides by one name.
fn named_columns(operator: &JoinOperator) -> Option<&JoinConstraint> {
    let constraint = match operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint)
        | JoinOperator::Semi(constraint)
        | JoinOperator::LeftSemi(constraint)
        | JoinOperator::RightSemi(constraint)
        | JoinOperator::Anti(constraint)
        | JoinOperator::LeftAnti(constraint)
        | JoinOperator::RightAnti(constraint) => constraint,
        _ => return None,
    };
    matches!(constraint, JoinConstraint::Using(_) | JoinConstraint::Natural).then_some(constraint)
}

impl Visitor for Refusals {
    type Break = Box<Error>;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        if let Some(lock) = query.locks.first() {
            let hint = "leave it out: a job only reads its sources, and nothing is locked";
            return self.refuse(&lock.to_string(), Span::empty(), hint);
        }
        selects(&query.body, &mut |select| self.select(select))
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
        match expr {
            Expr::BinaryOp { op: BinaryOperator::BitwiseXor, .. } => {
                self.refuse("the operator ^", expr.span(), "POWER(a, b) raises to a power")
            }
            Expr::BinaryOp { left, op, right } if is_row(left) && is_row(right) && is_order(op) => {
                self.refuse("an order of rows", expr.span(), "compare column by column: a < x OR (a = x AND b < y)")
            }
            Expr::Value(value) if matches!(value.value, Value::EscapedStringLiteral(_)) => {
                self.refuse("a text with escapes (E'…')", value.span, "write U&'…\\000a…', or the character itself")
            }
            Expr::Function(function) => {
                let FunctionArguments::List(list) = &function.args else { return ControlFlow::Continue(()) };
                let is_all = matches!(
                    list.args.as_slice(),
                    [FunctionArg::Unnamed(FunctionArgExpr::Wildcard | FunctionArgExpr::QualifiedWildcard(_))]
                );
                if is_all && list.duplicate_treatment == Some(DuplicateTreatment::Distinct) {
                    return self.refuse("DISTINCT *", expr.span(), "name a column, or a ROW of several");
                }
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

fn selects(body: &SetExpr, visit: &mut impl FnMut(&Select) -> ControlFlow<Box<Error>>) -> ControlFlow<Box<Error>> {
    match body {
        SetExpr::Select(select) => visit(select),
        SetExpr::SetOperation { left, right, .. } => {
            selects(left, visit)?;
            selects(right, visit)
        }
        // A nested query is visited as a query.
        _ => ControlFlow::Continue(()),
    }
}

fn is_row(expr: &Expr) -> bool {
    matches!(expr, Expr::Tuple(_))
}

fn is_order(op: &BinaryOperator) -> bool {
    matches!(op, BinaryOperator::Lt | BinaryOperator::LtEq | BinaryOperator::Gt | BinaryOperator::GtEq)
}
