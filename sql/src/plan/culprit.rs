//! The place of an error that DataFusion gives without one.
//!
//! Only columns keep their place through the planner. So the query is planned again with one expression after the
//! other replaced by NULL: the one without which the error is gone holds the mistake, and so on inside of it
//! (delta debugging: Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002).

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{self, Expr, Spanned, TableFactor, Value, Visit, VisitMut, Visitor, VisitorMut};
use datafusion_sql::sqlparser::tokenizer::Span;
use qanat_proto::error::{Code, Error};

use crate::lower;
use crate::parse::place_of;

/// A query is planned this often at most.
const ATTEMPTS_MAX: usize = 200;
/// As many expressions beside each other are tried one by one; more are halved.
const SINGLES_MAX: usize = 32;

/// `error`, which planning `query` by `attempt` gave, at the innermost expression that causes it.
pub(crate) fn placed<T>(error: Error, query: &ast::Query, attempt: impl Fn(&ast::Query) -> Result<T, Error>) -> Error {
    // A limit or a bug of ours is not the fault of one expression.
    if error.place().is_some() || matches!(error.code(), Code::SqlLimit | Code::Internal) {
        return error;
    }
    let mut outline = Outline::default();
    let _ = Visit::visit(query, &mut outline);
    let mut search = Search { query, outline: &outline, error: &error, attempt, attempts: 0 };
    let Some(mut found) = search.among(&outline.children(None)) else {
        return error;
    };
    // Two children that are each at fault are a mistake of what holds them.
    while let [child] = search.guilty(&outline.children(Some(found))).as_slice() {
        if outline.children(Some(*child)).is_empty() {
            break;
        }
        found = *child;
    }
    lower::placed(error, outline.spans.get(found).copied().and_then(place_of))
}

struct Search<'a, F> {
    query: &'a ast::Query,
    outline: &'a Outline,
    error: &'a Error,
    attempt: F,
    attempts: usize,
}

impl<T, F: Fn(&ast::Query) -> Result<T, Error>> Search<'_, F> {
    /// The one among `candidates` without which all is well; failing that, without which the error is another.
    fn among(&mut self, candidates: &[usize]) -> Option<usize> {
        [true, false].into_iter().find_map(|strict| {
            if candidates.len() <= SINGLES_MAX {
                candidates.iter().copied().find(|index| self.gone(&[*index], strict))
            } else {
                self.halved(candidates, strict)
            }
        })
    }

    fn halved(&mut self, candidates: &[usize], strict: bool) -> Option<usize> {
        let mut rest = candidates;
        while rest.len() > 1 {
            let (left, right) = rest.split_at(rest.len() / 2);
            rest = match (self.gone(left, strict), strict) {
                (true, _) => left,
                (false, _) if self.gone(right, strict) => right,
                _ => return None,
            };
        }
        rest.first().copied().filter(|index| self.gone(&[*index], strict))
    }

    /// Those among a few siblings without which the error is gone.
    fn guilty(&mut self, siblings: &[usize]) -> Vec<usize> {
        if siblings.len() > SINGLES_MAX {
            return Vec::new();
        }
        siblings.iter().copied().filter(|index| self.gone(&[*index], false)).collect()
    }

    /// Whether the error is gone when these expressions are NULL; `strict` asks that there is no other.
    fn gone(&mut self, left_out: &[usize], strict: bool) -> bool {
        if self.attempts >= ATTEMPTS_MAX {
            return false;
        }
        self.attempts += 1;
        let mut query = self.query.clone();
        let mut removal = Removal { left_out: left_out.iter().copied().collect(), sizes: &self.outline.sizes, next: 0 };
        let _ = VisitMut::visit(&mut query, &mut removal);
        match (self.attempt)(&query) {
            Ok(_) => true,
            Err(other) => !strict && (other.code(), other.message()) != (self.error.code(), self.error.message()),
        }
    }
}

/// The expressions of a query in the order in which a visit meets them.
#[derive(Default)]
struct Outline {
    parents: Vec<Option<usize>>,
    /// How many expressions each one holds, itself included.
    sizes: Vec<usize>,
    spans: Vec<Span>,
    /// Arguments of table functions: they cannot be NULL.
    fixed: BTreeSet<usize>,
    open: Vec<usize>,
    table_functions: usize,
}

impl Outline {
    fn children(&self, parent: Option<usize>) -> Vec<usize> {
        (0..self.parents.len())
            .filter(|index| self.parents.get(*index) == Some(&parent) && !self.fixed.contains(index))
            .collect()
    }
}

fn is_table_function(factor: &TableFactor) -> bool {
    matches!(
        factor,
        TableFactor::Table { args: Some(_), .. } | TableFactor::Function { .. } | TableFactor::TableFunction { .. }
    )
}

impl Visitor for Outline {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        self.table_functions += usize::from(is_table_function(factor));
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        self.table_functions -= usize::from(is_table_function(factor));
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let index = self.parents.len();
        if self.table_functions > 0 {
            self.fixed.insert(index);
        }
        self.parents.push(self.open.last().copied());
        self.sizes.push(1);
        self.spans.push(expr.span());
        self.open.push(index);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _: &Expr) -> ControlFlow<()> {
        if let Some(index) = self.open.pop()
            && let Some(size) = self.sizes.get_mut(index)
        {
            *size = self.parents.len() - index;
        }
        ControlFlow::Continue(())
    }
}

/// Replaces expressions by NULL.
struct Removal<'a> {
    left_out: BTreeSet<usize>,
    sizes: &'a [usize],
    next: usize,
}

impl VisitorMut for Removal<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.left_out.contains(&self.next) {
            *expr = Expr::value(Value::Null);
            self.next += self.sizes.get(self.next).copied().unwrap_or(1);
        } else {
            self.next += 1;
        }
        ControlFlow::Continue(())
    }
}
