//! Window table functions as they stand in FROM: `TUMBLE`, `HOP`, `CUMULATE`, `SESSION`.
//!
//! `TABLE t [PARTITION BY k, …]` as an argument has no form in sqlparser's AST. It leaves the parser as a
//! call `TABLE(t, k, …)` with the keyword as its name, which no function can have, and is read back here.

use datafusion_sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Query, SetExpr, Spanned,
    TableAlias, TableFactor,
};
use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use datafusion_sql::sqlparser::tokenizer::Token;
use qanat_proto::error::nearest;
use qanat_proto::{Code, Error, Place, Result};

use super::dialect::call;
use super::failure::{carry, unsupported};
use super::interval::interval_of;
use super::place_of;

/// Name of the call that stands for `TABLE t`.
pub(super) const TABLE_ARGUMENT: &str = "TABLE";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowKind {
    Tumble,
    Hop,
    Cumulate,
    Session,
}

impl WindowKind {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Some(match name.to_ascii_uppercase().as_str() {
            "TUMBLE" => Self::Tumble,
            "HOP" => Self::Hop,
            "CUMULATE" => Self::Cumulate,
            "SESSION" => Self::Session,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Tumble => "TUMBLE",
            Self::Hop => "HOP",
            Self::Cumulate => "CUMULATE",
            Self::Session => "SESSION",
        }
    }

    /// Names of its interval arguments, in the order in which they stand.
    fn intervals(self) -> &'static [&'static str] {
        match self {
            Self::Tumble => &["SIZE"],
            Self::Hop => &["SLIDE", "SIZE"],
            Self::Cumulate => &["STEP", "SIZE"],
            Self::Session => &["GAP"],
        }
    }

    fn usage(self) -> &'static str {
        match self {
            Self::Tumble => "write TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)",
            Self::Hop => {
                "write HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '10' SECOND): the slide, then the size"
            }
            Self::Cumulate => {
                "write CUMULATE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR, INTERVAL '1' DAY): the step, then the size"
            }
            Self::Session => "write SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '5' MINUTE)",
        }
    }
}

/// What a window table function runs over.
#[derive(Clone, Debug)]
pub enum WindowInput {
    Table(ObjectName),
    Query(Box<Query>),
}

/// A call of a window table function, checked for its form. All lengths in milliseconds.
#[derive(Clone, Debug)]
pub struct WindowCall {
    pub kind: WindowKind,
    pub input: WindowInput,
    pub time_column: Ident,
    /// Session only.
    pub partition_by: Vec<Ident>,
    /// Tumble: size. Hop: slide, size. Cumulate: step, max size. Session: gap. All positive; sizes of hop
    /// and cumulate are multiples of the slide or step.
    pub intervals_ms: Vec<i64>,
    pub offset_ms: i64,
    /// Of the function's name.
    pub place: Option<Place>,
}

/// Parses `t [PARTITION BY k, …]` behind the keyword `TABLE` in an argument.
pub(super) fn parse_table_argument(parser: &mut Parser) -> Result<Expr, ParserError> {
    let name = parser.parse_object_name(false)?;
    let parts = name.0.iter().filter_map(|part| part.as_ident().cloned()).collect();
    partitioned(parser, Expr::CompoundIdentifier(parts))
}

/// Parses `(SELECT …) PARTITION BY k, …` as an argument. None: something else stands here.
pub(super) fn parse_partitioned_query(parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
    let begins = parser.peek_token_ref().token == Token::LParen
        && matches!(&parser.peek_nth_token_ref(1).token, Token::Word(word)
            if matches!(word.keyword, Keyword::SELECT | Keyword::WITH));
    if !begins || !is_partitioned(parser) {
        return None;
    }
    parser.advance_token();
    let query = parser.parse_query().and_then(|query| {
        parser.expect_token(&Token::RParen)?;
        partitioned(parser, Expr::Subquery(query))
    });
    Some(query)
}

/// Whether PARTITION stands behind what is in parentheses next.
fn is_partitioned(parser: &mut Parser) -> bool {
    let (mut taken, mut depth) = (0_usize, 0_usize);
    loop {
        let token = parser.next_token().token;
        taken += 1;
        match token {
            Token::LParen => depth += 1,
            Token::RParen if depth > 1 => depth -= 1,
            Token::RParen | Token::EOF => break,
            _ => {}
        }
    }
    let found = parser.peek_keyword(Keyword::PARTITION);
    for _ in 0..taken {
        parser.prev_token();
    }
    found
}

/// Parses `[PARTITION BY k, …]` behind the input of a window table function.
fn partitioned(parser: &mut Parser, input: Expr) -> Result<Expr, ParserError> {
    let mut args = vec![input];
    let by_at = parser.peek_token_ref().span.start;
    if parser.parse_keywords(&[Keyword::PARTITION, Keyword::BY]) {
        let parenthesised = parser.consume_token(&Token::LParen);
        loop {
            let key = parser.parse_identifier()?;
            if parser.peek_token_ref().token == Token::Period {
                let error = unsupported("PARTITION BY of a window takes columns of its table, without a dot", by_at)
                    .hint("give the field a name in a view, and use the view as the table");
                return Err(carry(&error));
            }
            args.push(Expr::Identifier(key));
            // A comma goes on to another key only if a bare name follows: DESCRIPTOR(…) and `SIZE => …`
            // are the next arguments.
            let next = parser.peek_nth_token_ref(1).token.clone();
            let behind = parser.peek_nth_token_ref(2).token.clone();
            let is_key = matches!(next, Token::Word(_))
                && !matches!(behind, Token::LParen | Token::RArrow)
                && !matches!(&next, Token::Word(word) if word.keyword == Keyword::INTERVAL);
            if parser.peek_token_ref().token != Token::Comma || !(is_key || parenthesised) {
                break;
            }
            parser.advance_token();
        }
        if parenthesised {
            parser.expect_token(&Token::RParen)?;
        }
    }
    if parser.parse_keywords(&[Keyword::ORDER, Keyword::BY]) {
        let error = unsupported("ORDER BY of a table argument is not supported", by_at);
        return Err(carry(&error));
    }
    Ok(call(TABLE_ARGUMENT, args))
}

/// The window call that a table of FROM is, with its alias: `TABLE(TUMBLE(…)) AS w` or `TUMBLE(…) AS w`.
///
/// # Errors
/// As [`window_call`].
pub fn window_factor(factor: &TableFactor) -> Result<Option<(WindowCall, Option<TableAlias>)>> {
    match factor {
        TableFactor::TableFunction { expr, alias } => Ok(window_call(expr)?.map(|call| (call, alias.clone()))),
        TableFactor::Table { name, alias, args: Some(arguments), .. } => {
            let Some(kind) = kind_of(name) else { return Ok(None) };
            read_call(kind, &arguments.args, place_of(name.span())).map(|call| Some((call, alias.clone())))
        }
        _ => Ok(None),
    }
}

/// Recognises a call of a window table function. `None`: it is some other expression.
///
/// # Errors
/// E0109 if an argument is missing, superfluous or of the wrong kind; with the function's place and its
/// usage as a hint.
pub fn window_call(expr: &Expr) -> Result<Option<WindowCall>> {
    let Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) = expr else { return Ok(None) };
    let Some(kind) = kind_of(name) else { return Ok(None) };
    read_call(kind, &list.args, place_of(name.span())).map(Some)
}

fn kind_of(name: &ObjectName) -> Option<WindowKind> {
    match name.0.as_slice() {
        [part] => WindowKind::from_name(&part.as_ident()?.value),
        _ => None,
    }
}

fn read_call(kind: WindowKind, args: &[FunctionArg], place: Option<Place>) -> Result<WindowCall> {
    let fail = |message: String| {
        let error = Error::new(Code::TimeAttribute, message).hint(kind.usage());
        match &place {
            Some(place) => error.at(place.clone()),
            None => error,
        }
    };
    let slots: Vec<&str> = ["DATA", "TIMECOL"].iter().chain(kind.intervals()).chain(&["OFFSET"]).copied().collect();
    let mut values: Vec<Option<&Expr>> = vec![None; slots.len()];
    for (index, arg) in args.iter().enumerate() {
        let (slot, value) = match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => (index, expr),
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(expr), .. } => {
                let slot = slots.iter().position(|slot| name.value.eq_ignore_ascii_case(slot)).ok_or_else(|| {
                    let near = nearest(&name.value, slots.iter().copied());
                    let near = near.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
                    fail(format!("{} has no argument {}{near}", kind.name(), name.value))
                })?;
                (slot, expr)
            }
            other => return Err(fail(format!("{} cannot take the argument `{other}`", kind.name()))),
        };
        let value_slot = values
            .get_mut(slot)
            .ok_or_else(|| fail(format!("{} takes at most {} arguments", kind.name(), slots.len())))?;
        if value_slot.replace(value).is_some() {
            return Err(fail(format!("{} is given twice", slots.get(slot).copied().unwrap_or_default())));
        }
    }
    let value = |slot: usize| values.get(slot).copied().flatten();
    let needed = |slot: usize| {
        value(slot).ok_or_else(|| {
            fail(format!("{} lacks its argument {}", kind.name(), slots.get(slot).copied().unwrap_or_default()))
        })
    };
    let (input, partition_by) = table_argument(needed(0)?)
        .ok_or_else(|| fail(format!("the first argument of {} must be `TABLE name` or a query", kind.name())))?;
    if !partition_by.is_empty() && kind != WindowKind::Session {
        return Err(fail(format!("{} takes no PARTITION BY; group by the key instead", kind.name())));
    }
    let time_column = descriptor(needed(1)?)
        .ok_or_else(|| fail(format!("the second argument of {} must be DESCRIPTOR(column)", kind.name())))?;
    let milliseconds = |slot: usize, expr: &Expr| {
        interval_of(expr).filter(|value| value.months == 0).map(|value| value.milliseconds).ok_or_else(|| {
            let name = slots.get(slot).copied().unwrap_or_default();
            fail(format!("{name} of {} must be an interval literal of days, hours, minutes or seconds", kind.name()))
        })
    };
    let mut intervals_ms = Vec::new();
    for index in 0..kind.intervals().len() {
        let length = milliseconds(index + 2, needed(index + 2)?)?;
        if length <= 0 {
            return Err(fail(format!("the intervals of {} must be positive", kind.name())));
        }
        intervals_ms.push(length);
    }
    if let [part, size] = intervals_ms.as_slice()
        && size % part != 0
    {
        let name = kind.intervals().first().copied().unwrap_or_default().to_lowercase();
        return Err(fail(format!("the size of {} must be a multiple of its {name}", kind.name())));
    }
    let offset_slot = slots.len() - 1;
    let offset_ms = match value(offset_slot) {
        Some(_) if kind == WindowKind::Session => return Err(fail("SESSION takes no offset".to_owned())),
        Some(expr) => milliseconds(offset_slot, expr)?,
        None => 0,
    };
    Ok(WindowCall { kind, input, time_column, partition_by, intervals_ms, offset_ms, place })
}

/// `TABLE t PARTITION BY …`, `TABLE(t)`, a bare name, or a query in parentheses.
fn table_argument(expr: &Expr) -> Option<(WindowInput, Vec<Ident>)> {
    match expr {
        Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) if matches!(name.0.as_slice(), [part] if part.as_ident().is_some_and(|ident| ident.value == TABLE_ARGUMENT)) =>
        {
            let mut args = list.args.iter().map(|arg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
                _ => None,
            });
            let input = named_table(args.next()??)?;
            let keys = args.map(|key| match key? {
                Expr::Identifier(ident) => Some(ident.clone()),
                _ => None,
            });
            Some((input, keys.collect::<Option<Vec<_>>>()?))
        }
        Expr::Nested(inner) => table_argument(inner),
        other => Some((named_table(other)?, Vec::new())),
    }
}

fn named_table(expr: &Expr) -> Option<WindowInput> {
    match expr {
        Expr::Identifier(ident) => Some(WindowInput::Table(ObjectName::from(vec![ident.clone()]))),
        Expr::CompoundIdentifier(parts) => Some(WindowInput::Table(ObjectName::from(parts.clone()))),
        Expr::Subquery(query) => match query.body.as_ref() {
            SetExpr::Table(_) => None,
            _ => Some(WindowInput::Query(query.clone())),
        },
        _ => None,
    }
}

fn descriptor(expr: &Expr) -> Option<Ident> {
    let Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) = expr else { return None };
    let is_descriptor = matches!(name.0.as_slice(), [part]
        if part.as_ident().is_some_and(|ident| ident.value.eq_ignore_ascii_case("DESCRIPTOR")));
    match list.args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(ident)))] if is_descriptor => Some(ident.clone()),
        _ => None,
    }
}
