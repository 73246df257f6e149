//! Group windows, the older form of windows: `GROUP BY TUMBLE(ts, …)` with `TUMBLE_START(ts, …)` in SELECT. They leave
//! the parser as the window table functions that took their place.
//!
//! `SELECT k, COUNT(*), SESSION_END(ts, g) FROM t AS x WHERE c GROUP BY k, SESSION(ts, g)` becomes
//! `SELECT k, COUNT(*), window_end FROM TABLE(SESSION((SELECT * FROM t AS x WHERE c) PARTITION BY k, DESCRIPTOR(ts), g)) AS x
//! GROUP BY k, window_start, window_end`.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Ident, Query, Select, SelectItem,
    SetExpr, Spanned, TableAlias, TableFactor, TableWithJoins, VisitMut, VisitorMut, WildcardAdditionalOptions,
};
use datafusion_sql::sqlparser::tokenizer::Location;
use qanat_proto::{Code, Error, Result};

use super::dialect::call;
use super::failure::unsupported;
use super::window_call::{TABLE_ARGUMENT, WindowKind};

/// # Errors
/// E0102 for a group window over several tables; E0109 for one without its arguments, for a second one in a GROUP BY, and
/// for a start or end of a window that the GROUP BY does not have.
pub(super) fn rewrite(query: &mut Query) -> Result<()> {
    match query.visit(&mut Rewriter) {
        ControlFlow::Break(error) => Err(*error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Rewriter;

impl VisitorMut for Rewriter {
    type Break = Box<Error>;

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<Self::Break> {
        match with_table_function(select) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }
}

/// A call of a window in GROUP BY.
struct GroupWindow {
    kind: WindowKind,
    time: Expr,
    /// Time, then intervals, as text: what its start and end are asked for by.
    arguments: Vec<String>,
    intervals: Vec<Expr>,
    at: Location,
}

fn with_table_function(select: &mut Select) -> Result<()> {
    let GroupByExpr::Expressions(keys, _) = &select.group_by else { return Ok(()) };
    let Some(window) = group_window(keys)? else { return Ok(()) };
    let keys: Vec<Expr> = keys.iter().filter(|key| window_kind(key).is_none()).cloned().collect();
    let refused = |what: &str, hint: &str| Err(unsupported(what, window.at).hint(hint));
    let relation = match select.from.as_slice() {
        [TableWithJoins { relation, joins }] if joins.is_empty() => relation,
        _ => {
            return refused(
                &format!("{} in GROUP BY over several tables is not supported", window.kind.name()),
                "join them in a view or a subquery, and group its rows",
            );
        }
    };
    let alias = match relation {
        TableFactor::Table { alias: Some(alias), .. } | TableFactor::Derived { alias: Some(alias), .. } => {
            Some(TableAlias { columns: Vec::new(), ..alias.clone() })
        }
        TableFactor::Table { name, .. } => name.0.last().and_then(|part| part.as_ident()).map(|name| TableAlias {
            explicit: true,
            name: name.clone(),
            columns: Vec::new(),
            at: None,
        }),
        TableFactor::Derived { .. } => None,
        _ => {
            return refused(
                &format!("{} in GROUP BY over a table function is not supported", window.kind.name()),
                "name its rows in a view or a subquery, and group these",
            );
        }
    };
    let Some(time) = last_name(&window.time) else {
        let message = format!("the first argument of {} is a column that is a time attribute", window.kind.name());
        return Err(failed(message, window.at).hint("compute the column in the table or in a view"));
    };
    let time = time.clone();
    // The rows that the window is of: a session is made of those that are left by the filter.
    let mut rows = select.clone();
    rows.projection = vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())];
    rows.group_by = GroupByExpr::Expressions(Vec::new(), Vec::new());
    (rows.having, rows.distinct) = (None, None);
    let mut renamed: Vec<(Expr, Ident)> = Vec::new();
    let mut partition = Vec::new();
    if window.kind == WindowKind::Session {
        for (number, key) in keys.iter().enumerate() {
            match (last_name(key), key) {
                (Some(name), _) => partition.push(Expr::Identifier(name.clone())),
                (None, Expr::Value(_)) => {
                    return refused(
                        "a position in GROUP BY beside SESSION is not supported",
                        "write the expression itself",
                    );
                }
                (None, key) => {
                    let name = Ident::with_quote('`', format!("session_key_{number}"));
                    rows.projection.push(SelectItem::ExprWithAlias { expr: key.clone(), alias: name.clone() });
                    partition.push(Expr::Identifier(name.clone()));
                    renamed.push((key.clone(), name));
                }
            }
        }
    }
    let rows = Expr::Subquery(Box::new(Query {
        with: None,
        body: Box::new(SetExpr::Select(Box::new(rows))),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    }));
    let input = match partition.is_empty() {
        true => rows,
        false => call(TABLE_ARGUMENT, std::iter::once(rows).chain(partition).collect()),
    };
    let descriptor = call("DESCRIPTOR", vec![Expr::Identifier(time)]);
    let arguments = [input, descriptor].into_iter().chain(window.intervals.iter().cloned()).collect();
    let mut expr = call(window.kind.name(), arguments);
    if let Expr::Function(function) = &mut expr
        && let Some(name) = function.name.0.first_mut()
    {
        // Where what is wrong with it stands.
        let mut ident = Ident::new(window.kind.name());
        ident.span.start = window.at;
        ident.span.end = window.at;
        *name = datafusion_sql::sqlparser::ast::ObjectNamePart::Identifier(ident);
    }
    let relation = TableFactor::TableFunction { expr, alias };
    select.from = vec![TableWithJoins { relation, joins: Vec::new() }];
    select.selection = None;
    let mut replacer = Replacer { window: &window, renamed, asks_time: false };
    let mut grouped: Vec<Expr> = keys;
    let replaced = grouped.visit(&mut replacer);
    let replaced = if replaced.is_continue() { select.projection.visit(&mut replacer) } else { replaced };
    let replaced = if replaced.is_continue() { select.having.visit(&mut replacer) } else { replaced };
    if let ControlFlow::Break(error) = replaced {
        return Err(*error);
    }
    let columns = ["window_start", "window_end"].into_iter().chain(replacer.asks_time.then_some("window_time"));
    grouped.extend(columns.map(|name| Expr::Identifier(Ident::new(name))));
    select.group_by = GroupByExpr::Expressions(grouped, Vec::new());
    Ok(())
}

/// The window among the keys of a GROUP BY.
fn group_window(keys: &[Expr]) -> Result<Option<GroupWindow>> {
    let mut found: Option<GroupWindow> = None;
    for key in keys {
        let Some((kind, function)) = window_kind(key) else { continue };
        let at = key.span().start;
        if found.is_some() {
            return Err(failed("a GROUP BY has one window", at).hint("group twice, or write two queries"));
        }
        let arguments = arguments_of(function);
        let [time, intervals @ ..] = arguments.as_slice() else {
            return Err(failed(format!("{} lacks its arguments", kind.name()), at).hint(usage(kind)));
        };
        found = Some(GroupWindow {
            kind,
            time: (*time).clone(),
            arguments: arguments.iter().map(text_of).collect(),
            intervals: intervals.iter().map(|interval| (*interval).clone()).collect(),
            at,
        });
    }
    Ok(found)
}

fn usage(kind: WindowKind) -> &'static str {
    match kind {
        WindowKind::Tumble => "write TUMBLE(ts, INTERVAL '10' SECOND)",
        WindowKind::Hop => "write HOP(ts, INTERVAL '5' SECOND, INTERVAL '10' SECOND): the slide, then the size",
        WindowKind::Cumulate => "CUMULATE stands in FROM alone",
        WindowKind::Session => "write SESSION(ts, INTERVAL '5' MINUTE)",
    }
}

fn window_kind(expr: &Expr) -> Option<(WindowKind, &Function)> {
    let Expr::Function(function) = expr else { return None };
    let kind = WindowKind::from_name(name_of(function)?)?;
    (kind != WindowKind::Cumulate).then_some((kind, function))
}

fn name_of(function: &Function) -> Option<&str> {
    match function.name.0.as_slice() {
        [part] => part.as_ident().map(|ident| ident.value.as_str()),
        _ => None,
    }
}

fn arguments_of(function: &Function) -> Vec<&Expr> {
    let FunctionArguments::List(list) = &function.args else { return Vec::new() };
    let expr = |arg| match arg {
        &FunctionArg::Unnamed(FunctionArgExpr::Expr(ref expr)) => Some(expr),
        _ => None,
    };
    list.args.iter().filter_map(expr).collect()
}

/// An argument as it is compared: a column with or without its table.
fn text_of(expr: &&Expr) -> String {
    last_name(expr).map_or_else(|| expr.to_string(), |name| name.value.clone())
}

fn last_name(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(names) => names.last(),
        _ => None,
    }
}

fn failed(message: impl Into<String>, at: Location) -> Error {
    Error::new(Code::TimeAttribute, message.into()).at(qanat_proto::Place::Sql { line: at.line, column: at.column })
}

/// Puts the window's columns where its start and end are asked for, and names where keys stand that became columns.
struct Replacer<'a> {
    window: &'a GroupWindow,
    renamed: Vec<(Expr, Ident)>,
    asks_time: bool,
}

impl VisitorMut for Replacer<'_> {
    type Break = Box<Error>;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        if let Some((_, name)) = self.renamed.iter().find(|(key, _)| key == expr) {
            *expr = Expr::Identifier(name.clone());
            return ControlFlow::Continue(());
        }
        let Expr::Function(function) = &*expr else { return ControlFlow::Continue(()) };
        let Some(name) = name_of(function).map(str::to_ascii_uppercase) else { return ControlFlow::Continue(()) };
        let Some((kind, what)) = name.split_once('_') else { return ControlFlow::Continue(()) };
        let column = match (WindowKind::from_name(kind), what) {
            (None, _) => return ControlFlow::Continue(()),
            (Some(_), "START") => "window_start",
            (Some(_), "END") => "window_end",
            (Some(_), "ROWTIME" | "PROCTIME") => "window_time",
            (Some(_), _) => return ControlFlow::Continue(()),
        };
        let arguments: Vec<String> = arguments_of(function).iter().map(text_of).collect();
        if kind != self.window.kind.name() || arguments != self.window.arguments {
            let message = format!("{name} is of another window than the one in GROUP BY");
            let error = failed(message, expr.span().start);
            return ControlFlow::Break(Box::new(error.hint("write the arguments that stand there")));
        }
        self.asks_time |= column == "window_time";
        *expr = Expr::Identifier(Ident { span: expr.span(), ..Ident::new(column) });
        ControlFlow::Continue(())
    }
}
