//! Hints: `SELECT /*+ STATE_TTL('orders' = '1 d') */ … FROM orders`, for the tables of that SELECT.
//!
//! Such a table leaves the parser in parentheses of its own, which no text can give it: `(orders) AS 86400000`, with the
//! time to live in ms where a name would stand. [`state_ttl`] reads that back.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    Ident, OptimizerHint, OptimizerHintStyle, Query, Select, TableAlias, TableFactor, TableWithJoins, VisitMut,
    VisitorMut,
};
use datafusion_sql::sqlparser::tokenizer::{Location, Token, Tokenizer};
use qanat_proto::error::nearest;
use qanat_proto::settings::parse_duration_ms;
use qanat_proto::{Code, Error, Result};

use super::dialect::FlinkDialect;
use super::failure::{place, syntax, unsupported};

const STATE_TTL: &str = "STATE_TTL";
const USAGE: &str = "write SELECT /*+ STATE_TTL('orders' = '1 d', 'payments' = '7 d') */ with the tables of its FROM";

/// A table and how long what comes of it is kept, in ms; 0: for as long as the job lives.
#[derive(Debug, PartialEq, Eq)]
struct Hint {
    table: String,
    ttl_ms: u64,
}

/// A comment with a plus in front.
///
/// # Errors
/// E0102 where no hint is taken, or for another one than `STATE_TTL`; E0101 for one that is written wrongly; E0112 for
/// what is no duration.
pub(super) fn check(comment: &str, follows_select: bool, at: Location) -> Result<()> {
    if !follows_select {
        return Err(unsupported("a hint is taken behind SELECT only", at)
            .hint("set table options in WITH (…) and job settings with SET; remove the /*+ … */"));
    }
    parse(comment.trim_start_matches('+'), at).map(drop)
}

fn parse(text: &str, at: Location) -> Result<Vec<Hint>> {
    let wrong = || syntax("a hint that cannot be read", at).hint(USAGE);
    let tokens = Tokenizer::new(&FlinkDialect::default(), text).tokenize().map_err(|_| wrong())?;
    let mut tokens = tokens.into_iter().filter(|token| !matches!(token, Token::Whitespace(_))).peekable();
    let mut hints = Vec::new();
    while let Some(token) = tokens.next() {
        let Token::Word(name) = token else { return Err(wrong()) };
        if !name.value.eq_ignore_ascii_case(STATE_TTL) {
            let error = unsupported(format!("the hint `{}` is not supported", name.value), at);
            return Err(match nearest(&name.value.to_uppercase(), [STATE_TTL]) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint(format!("the one hint that there is: {USAGE}")),
            });
        }
        if tokens.next() != Some(Token::LParen) {
            return Err(wrong());
        }
        loop {
            let table = match tokens.next() {
                Some(Token::SingleQuotedString(text)) => text,
                Some(Token::Word(word)) => word.value,
                _ => return Err(wrong()),
            };
            let (Some(Token::Eq), Some(Token::SingleQuotedString(value))) = (tokens.next(), tokens.next()) else {
                return Err(wrong());
            };
            let Some(ttl_ms) = parse_duration_ms(&value) else {
                let message = format!("`{value}` is no time to live of `{table}`");
                return Err(
                    located(Code::BadSetting, message, at).hint("write `10 s`, `5 min` or `1 d`; `0 s` keeps it")
                );
            };
            hints.push(Hint { table, ttl_ms });
            match tokens.next() {
                Some(Token::Comma) => {}
                Some(Token::RParen) => break,
                _ => return Err(wrong()),
            }
        }
        tokens.next_if_eq(&Token::Comma);
    }
    if hints.is_empty() { Err(wrong()) } else { Ok(hints) }
}

fn located(code: Code, message: String, at: Location) -> Error {
    Error::new(code, message).at(place(at))
}

/// Marks the tables that hints name, in all SELECTs of a query.
///
/// # Errors
/// E0103 for a hint of a table that its SELECT does not read; E0102 for one of a table without state.
pub(super) fn mark(query: &mut Query) -> Result<()> {
    match query.visit(&mut Marker) {
        ControlFlow::Break(error) => Err(*error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Marker;

impl VisitorMut for Marker {
    type Break = Box<Error>;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Self::Break> {
        match mark_select(select) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }
}

fn mark_select(select: &mut Select) -> Result<()> {
    let at = select.select_token.0.span.start;
    let mut hints: Vec<Hint> = Vec::new();
    for hint in std::mem::take(&mut select.optimizer_hints) {
        let OptimizerHint { prefix, text, style: OptimizerHintStyle::MultiLine } = hint else { continue };
        // Others are comments.
        if prefix.is_empty() {
            hints.extend(parse(&text, at)?);
        }
    }
    if hints.is_empty() {
        return Ok(());
    }
    let mut factors = Vec::new();
    select.from.iter_mut().for_each(|from| factors_of(from, &mut factors));
    let names: Vec<Option<String>> = factors.iter().map(|factor| name_of(factor)).collect();
    for (position, hint) in hints.iter().enumerate() {
        if hints.iter().skip(position + 1).any(|later| later.table == hint.table) {
            let message = format!("`{}` has two times to live in the hints of one SELECT", hint.table);
            return Err(located(Code::SqlDuplicate, message, at));
        }
        if !names.iter().flatten().any(|name| *name == hint.table) {
            let message = format!("the hint {STATE_TTL} names `{}`, which this SELECT does not read", hint.table);
            let error = located(Code::UnknownTable, message, at);
            return Err(match nearest(&hint.table, names.iter().flatten().map(String::as_str)) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint("a table with an alias goes by its alias"),
            });
        }
    }
    for (factor, name) in factors.into_iter().zip(&names) {
        let Some(hint) = hints.iter().find(|hint| Some(&hint.table) == name.as_ref()) else { continue };
        let is_read = match factor {
            TableFactor::Table { version, .. } => version.is_none(),
            TableFactor::Derived { lateral, .. } => !*lateral,
            _ => false,
        };
        if !is_read {
            let message = format!("`{}` has no state that {STATE_TTL} could shorten", hint.table);
            return Err(unsupported(message, at)
                .hint("what joins, GROUP BY and row numbers keep of tables and subqueries has a time to live"));
        }
        let relation = factor.clone();
        *factor = TableFactor::NestedJoin {
            table_with_joins: Box::new(TableWithJoins { relation, joins: Vec::new() }),
            alias: Some(TableAlias {
                explicit: true,
                name: Ident::with_quote('`', hint.ttl_ms.to_string()),
                columns: Vec::new(),
                at: None,
            }),
        };
    }
    Ok(())
}

/// The tables of a FROM item, those of joins in parentheses too.
fn factors_of<'f>(from: &'f mut TableWithJoins, factors: &mut Vec<&'f mut TableFactor>) {
    let relations = std::iter::once(&mut from.relation).chain(from.joins.iter_mut().map(|join| &mut join.relation));
    for relation in relations {
        match relation {
            TableFactor::NestedJoin { table_with_joins, .. } => factors_of(table_with_joins, factors),
            other => factors.push(other),
        }
    }
}

/// What the SELECT calls the table.
fn name_of(factor: &TableFactor) -> Option<String> {
    match factor {
        TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. }
        | TableFactor::TableFunction { alias: Some(alias), .. }
        | TableFactor::Function { alias: Some(alias), .. }
        | TableFactor::UNNEST { alias: Some(alias), .. } => Some(alias.name.value.clone()),
        TableFactor::Table { name, .. } => {
            name.0.last().and_then(|part| part.as_ident()).map(|name| name.value.clone())
        }
        _ => None,
    }
}

/// The table of a mark, what its SELECT calls it, and how long what comes of it is kept.
pub(crate) fn state_ttl(factor: &TableFactor) -> Option<(&TableFactor, String, u64)> {
    let TableFactor::NestedJoin { table_with_joins, alias: Some(alias) } = factor else { return None };
    let is_mark = table_with_joins.joins.is_empty()
        && matches!(table_with_joins.relation, TableFactor::Table { .. } | TableFactor::Derived { .. });
    let ttl_ms = is_mark.then(|| alias.name.value.parse().ok()).flatten()?;
    let name = name_of(&table_with_joins.relation)?;
    Some((&table_with_joins.relation, name, ttl_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_names_tables_and_times() {
        let at = Location { line: 1, column: 1 };
        let hints = |text: &str| parse(text, at).map_err(|error| error.to_string());
        let one = |table: &str, ttl_ms: u64| Hint { table: table.to_owned(), ttl_ms };
        assert_eq!(hints(" STATE_TTL('a'='1d') "), Ok(vec![one("a", 86_400_000)]));
        assert_eq!(
            hints("state_ttl(a = '0', `b c` = '2 h'), STATE_TTL('d' = '1 s') STATE_TTL('e' = '2')"),
            Ok(vec![one("a", 0), one("b c", 7_200_000), one("d", 1_000), one("e", 2)])
        );
        for wrong in
            ["", "STATE_TTL", "STATE_TTL()", "STATE_TTL('a')", "STATE_TTL('a'='1d'", "('a'='1d')", "STATE_TTL('a"]
        {
            assert!(hints(wrong).is_err_and(|error| error.contains("E0101")), "{wrong}");
        }
        assert!(hints("STATE_TTL('a' = 'soon')").is_err_and(|error| error.contains("E0112")));
        assert!(hints("BROADCAST(a)").is_err_and(|error| error.contains("E0102")));
    }
}
