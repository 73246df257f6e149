//! What a query's text must say before DataFusion plans it: names for output columns that would collide or are
//! fields of rows, types of literals in VALUES, LISTAGG's delimiter, fields of rows in arrays, comparisons of rows.
//!
//! DataFusion names an unnamed expression by its text without casts and refuses a SELECT in which two
//! come out equal. In Flink columns of a query may be equal expressions; those after the first get
//! Flink's own name for an expression without one, `EXPR$` and the position.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, CastKind, DataType, ExactNumberInfo, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, Ident, Query, Select, SelectItem, SetExpr, Subscript, TableFactor, TableWithJoins, TimezoneInfo,
    TypedString, UnaryOperator, Value, Values, VisitMut, VisitorMut,
};

use crate::parse::{call, plain_cast, text};

/// Gives every later of several equal, unnamed columns a name of its own, in all SELECTs of a query.
pub(crate) fn name_apart(query: &mut Query) {
    let _ = query.visit(&mut Queries);
}

/// Gives later columns of the outermost SELECTs whose name is taken Flink's name for them, `id0`: what a table
/// or the screen gets is told apart by position. `wildcards` says which names `*` of a SELECT stands for.
pub(crate) fn number_duplicates(body: &mut SetExpr, wildcards: &dyn Fn(&Select) -> Vec<String>) {
    match body {
        SetExpr::Select(select) => {
            let mut taken: BTreeSet<String> = wildcards(select).into_iter().collect();
            let given = |item: &SelectItem| match item {
                SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => parts.last().map(|part| part.value.clone()),
                other => plain_name(other),
            };
            let all: BTreeSet<String> = select.projection.iter().filter_map(given).chain(taken.clone()).collect();
            for item in &mut select.projection {
                let Some(name) = given(item) else { continue };
                if taken.insert(name.clone()) {
                    continue;
                }
                let free = numbered(&name, |free| all.contains(free) || taken.contains(free));
                taken.insert(free.clone());
                let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else { continue };
                *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: Ident::with_quote('`', free) };
            }
        }
        SetExpr::SetOperation { left, right, .. } => {
            number_duplicates(left, wildcards);
            number_duplicates(right, wildcards);
        }
        SetExpr::Query(query) => number_duplicates(&mut query.body, wildcards),
        _ => {}
    }
}

/// The name of a column under an alias, or without a table before it.
fn plain_name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(name.value.clone()),
        _ => None,
    }
}

/// `name0`, or the next that is free.
fn numbered(name: &str, is_taken: impl Fn(&String) -> bool) -> String {
    (0_u64..).map(|n| format!("{name}{n}")).find(|free| !is_taken(free)).unwrap_or_default()
}

struct Queries;

impl VisitorMut for Queries {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        name_columns(&mut query.body);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        spell_out(expr);
        ControlFlow::Continue(())
    }
}

/// Spells out what an expression of no query leaves open.
pub(crate) fn spell_out_all(expr: &mut Expr) {
    struct All;
    impl VisitorMut for All {
        type Break = ();

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            spell_out(expr);
            ControlFlow::Continue(())
        }
    }
    let _ = expr.visit(&mut All);
}

fn spell_out(expr: &mut Expr) {
    match expr {
        Expr::Function(function) => delimit(function),
        Expr::TypedString(literal) => keep_digits(literal),
        Expr::CompoundFieldAccess { access_chain, .. } => fields_by_name(access_chain),
        Expr::BinaryOp { left, op: op @ (BinaryOperator::Eq | BinaryOperator::NotEq), right } => {
            if let Some(equal) = equal_rows(left, right) {
                let is_negated = *op == BinaryOperator::NotEq;
                *expr = if is_negated { not(equal) } else { equal };
            }
        }
        Expr::InList { expr: row, list, negated } => {
            let equal = list.iter().map(|item| equal_rows(row, item)).collect::<Option<Vec<_>>>();
            if let Some(any) = equal.and_then(|equal| combined(equal, &BinaryOperator::Or)) {
                *expr = if *negated { not(any) } else { any };
            }
        }
        Expr::Exists { subquery, .. } | Expr::InSubquery { subquery, .. } | Expr::Subquery(subquery) => {
            let _ = subquery.visit(&mut ArraysAsCalls);
        }
        _ => {}
    }
}

/// `ARRAY[a, b]` as a call: in brackets DataFusion knows no columns of tables around or on the left.
pub(crate) struct ArraysAsCalls;

impl VisitorMut for ArraysAsCalls {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Array(array) = expr {
            *expr = call("make_array", std::mem::take(&mut array.elem));
        }
        ControlFlow::Continue(())
    }
}

/// `(a, b) = (c, d)` column by column: compared as values, two rows with a NULL at one place would be equal.
fn equal_rows(left: &Expr, right: &Expr) -> Option<Expr> {
    let (Expr::Tuple(left), Expr::Tuple(right)) = (left, right) else { return None };
    if left.len() != right.len() {
        return None;
    }
    let equal = |(left, right): (&Expr, &Expr)| {
        let (left, right) = (Box::new(left.clone()), Box::new(right.clone()));
        equal_rows(&left, &right).unwrap_or(Expr::BinaryOp { left, op: BinaryOperator::Eq, right })
    };
    combined(left.iter().zip(right).map(equal).collect(), &BinaryOperator::And)
}

/// All of them under one operator, as a tree that is no deeper than it must be.
fn combined(mut exprs: Vec<Expr>, op: &BinaryOperator) -> Option<Expr> {
    while exprs.len() > 1 {
        let mut pairs = Vec::with_capacity(exprs.len().div_ceil(2));
        let mut rest = exprs.into_iter();
        while let Some(left) = rest.next() {
            pairs.push(match rest.next() {
                Some(right) => Expr::BinaryOp { left: Box::new(left), op: op.clone(), right: Box::new(right) },
                None => left,
            });
        }
        exprs = pairs;
    }
    exprs.pop().map(|all| Expr::Nested(Box::new(all)))
}

fn not(expr: Expr) -> Expr {
    Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(expr) }
}

/// `a[1].x` is `a[1]['x']`: behind a bracket DataFusion takes no dots.
fn fields_by_name(steps: &mut [AccessExpr]) {
    for step in steps.iter_mut().skip_while(|step| matches!(step, AccessExpr::Dot(_))) {
        if let AccessExpr::Dot(Expr::Identifier(name)) = step {
            *step = AccessExpr::Subscript(Subscript::Index { index: text(&name.value) });
        }
    }
}

/// `TIMESTAMP '….123456789'` has nine digits, `TIME '01:02:03.5'` has three.
fn keep_digits(literal: &mut TypedString) {
    let digits = match &literal.value.value {
        Value::SingleQuotedString(text) => text.rsplit_once('.').map_or(0, |(_, digits)| digits.trim_end().len()),
        _ => return,
    };
    match &mut literal.data_type {
        DataType::Timestamp(precision @ None, _) if digits > 6 => *precision = Some(9),
        DataType::Time(precision @ None, _) if digits > 0 => *precision = Some(digits.div_ceil(3).min(3) as u64 * 3),
        _ => {}
    }
}

/// `LISTAGG(x)` is `LISTAGG(x, ',')`.
fn delimit(function: &mut Function) {
    if let FunctionArguments::List(list) = &mut function.args
        && list.args.len() == 1
        && function.name.to_string().eq_ignore_ascii_case("listagg")
    {
        list.args.push(FunctionArg::Unnamed(FunctionArgExpr::Expr(text(","))));
    }
}

fn name_columns(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => {
            super::casts::wrap(select);
            name_fields(select);
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
        SetExpr::Values(values) => type_literals(values),
        // A nested query is visited as a query.
        _ => {}
    }
}

/// A field of a row, `r.x` or `t.r.x`, is a column by its own name: the planner would call it by all of its way.
/// Beside a wildcard, which may stand for that name, it keeps the long one.
fn name_fields(select: &mut Select) {
    let is_wildcard = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
    if select.projection.iter().any(is_wildcard) {
        return;
    }
    let tables: Vec<Vec<String>> = select.from.iter().flat_map(tables_of).collect();
    let is_column = |parts: &[Ident]| {
        parts.split_last().is_some_and(|(_, table)| {
            let table: Vec<String> = table.iter().map(|part| part.value.clone()).collect();
            tables.iter().any(|known| known.ends_with(&table))
        })
    };
    let column = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) if is_column(parts) => {
            parts.last().map(|part| part.value.clone())
        }
        other => plain_name(other),
    };
    let mut taken: BTreeSet<String> = select.projection.iter().filter_map(column).collect();
    for item in &mut select.projection {
        let name = match &*item {
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) if !is_column(parts) => parts.last(),
            SelectItem::UnnamedExpr(Expr::CompoundFieldAccess { access_chain, .. }) => match access_chain.last() {
                Some(AccessExpr::Dot(Expr::Identifier(name))) => Some(name),
                _ => None,
            },
            _ => None,
        };
        if let (Some(name), SelectItem::UnnamedExpr(expr)) = (name.map(|name| name.value.clone()), &*item) {
            let is_free = !taken.contains(&name);
            let name = if is_free { name } else { numbered(&name, |free| taken.contains(free)) };
            taken.insert(name.clone());
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: Ident::with_quote('`', name) };
        }
    }
}

/// The names that tables go by in a FROM item.
fn tables_of(from: &TableWithJoins) -> Vec<Vec<String>> {
    let relations = std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation));
    relations
        .flat_map(|relation| match relation {
            TableFactor::NestedJoin { table_with_joins, .. } => tables_of(table_with_joins),
            TableFactor::Table { name, alias: None, .. } => {
                let parts = name.0.iter().filter_map(|part| part.as_ident());
                vec![parts.map(|part| part.value.clone()).collect()]
            }
            TableFactor::Table { alias: Some(alias), .. }
            | TableFactor::Derived { alias: Some(alias), .. }
            | TableFactor::TableFunction { alias: Some(alias), .. }
            | TableFactor::Function { alias: Some(alias), .. }
            | TableFactor::UNNEST { alias: Some(alias), .. } => vec![vec![alias.name.value.clone()]],
            _ => Vec::new(),
        })
        .collect()
}

/// What the planner would call the column: its text without casts, a column without its table, an
/// aggregate that goes by another name without what stands around its arguments.
fn name_of(expr: &Expr) -> String {
    match bare(expr) {
        Expr::CompoundIdentifier(parts) => parts.last().map(ToString::to_string).unwrap_or_default(),
        Expr::Function(mut function) if is_alias(&function) => {
            function.filter = None;
            function.within_group.clear();
            if let FunctionArguments::List(list) = &mut function.args {
                list.clauses.clear();
                list.duplicate_treatment = None;
            }
            function.to_string()
        }
        other => other.to_string(),
    }
}

/// Whether it is an aggregate under a name that is not its first.
fn is_alias(function: &Function) -> bool {
    let called = function.name.to_string().to_ascii_lowercase();
    crate::functions::registry().aggregate(&called).is_some_and(|known| known.name() != called)
}

/// The text of an expression without its casts.
pub(super) fn without_casts(expr: &Expr) -> String {
    bare(expr).to_string()
}

fn bare(expr: &Expr) -> Expr {
    let mut expr = expr.clone();
    let _ = expr.visit(&mut WithoutCasts);
    expr
}

/// An integer literal of VALUES is INT where it fits: DataFusion makes it BIGINT, and a column of them
/// could not be inserted into an INT column. Beside a DOUBLE a number is one: DataFusion makes decimals of both; and
/// beside a timestamp a date is one, where DataFusion makes nanoseconds of both.
fn type_literals(values: &mut Values) {
    let width = values.rows.iter().map(|row| row.len()).max().unwrap_or(0);
    for column in 0..width {
        let cells = values.rows.iter().filter_map(|row| row.get(column));
        let is_number = |cell: &Expr| is_double(cell) || is_exact(cell) || is_null(cell);
        let is_small = |cell: &Expr| is_int(cell) || is_cast_to_int(cell) || is_null(cell);
        let data_type = if cells.clone().any(is_int) && cells.clone().all(is_small) {
            DataType::Int(None)
        } else if cells.clone().any(is_double) && cells.clone().all(is_number) {
            DataType::Double(ExactNumberInfo::None)
        } else if cells.clone().any(is_timestamp) && cells.clone().any(is_date) {
            DataType::Timestamp(Some(3), TimezoneInfo::None)
        } else {
            continue;
        };
        let is_meant = |cell: &Expr| !matches!(data_type, DataType::Timestamp(..)) || is_date(cell);
        for cell in values.rows.iter_mut().filter_map(|row| row.get_mut(column)).filter(|cell| is_meant(cell)) {
            let expr = Box::new(cell.clone());
            *cell = plain_cast(CastKind::Cast, expr, data_type.clone());
        }
    }
}

fn is_int(expr: &Expr) -> bool {
    integer(expr).is_some_and(|value| i32::try_from(value).is_ok())
}

/// What literals with a sign, `+`, `-` and `*` between them come to.
fn integer(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Nested(inner) => integer(inner),
        Expr::UnaryOp { op: UnaryOperator::Plus, expr } => integer(expr),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => integer(expr)?.checked_neg(),
        Expr::BinaryOp { left, op, right } => {
            let (left, right) = (integer(left)?, integer(right)?);
            match op {
                BinaryOperator::Plus => left.checked_add(right),
                BinaryOperator::Minus => left.checked_sub(right),
                BinaryOperator::Multiply => left.checked_mul(right),
                _ => None,
            }
        }
        Expr::Value(value) => match &value.value {
            Value::Number(text, _) => text.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

fn is_cast_to_int(expr: &Expr) -> bool {
    use DataType::{Int, Integer, SmallInt, TinyInt};
    matches!(expr, Expr::Cast { data_type: Int(_) | Integer(_) | SmallInt(_) | TinyInt(_), .. })
}

fn is_timestamp(expr: &Expr) -> bool {
    matches!(named_type(expr), Some(DataType::Timestamp(..)))
}

fn is_date(expr: &Expr) -> bool {
    matches!(named_type(expr), Some(DataType::Date))
}

/// Of `DATE '…'` and of a cast.
fn named_type(expr: &Expr) -> Option<&DataType> {
    match expr {
        Expr::TypedString(typed) => Some(&typed.data_type),
        Expr::Cast { data_type, .. } => Some(data_type),
        _ => None,
    }
}

/// A literal with an exponent, or a cast to DOUBLE.
fn is_double(expr: &Expr) -> bool {
    match expr {
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } => is_double(expr),
        other => matches!(other, Expr::Cast { data_type: DataType::Double(_), .. }),
    }
}

/// A literal without an exponent.
fn is_exact(expr: &Expr) -> bool {
    match expr {
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } => is_exact(expr),
        other => matches!(other, Expr::Value(value) if matches!(value.value, Value::Number(..))),
    }
}

fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if matches!(value.value, Value::Null))
}

struct WithoutCasts;

impl VisitorMut for WithoutCasts {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Cast { expr: inner, .. } | Expr::Nested(inner) => *expr = inner.as_ref().clone(),
            // `TIMESTAMP '…'` is a cast too.
            Expr::TypedString(typed) => *expr = Expr::Value(typed.value.clone()),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
