//! The dialect as sqlparser sees it: its generic dialect, with Flink's expressions hooked in.
//!
//! The hooks read what sqlparser cannot (`TABLE t` as an argument, `CAST(… AS ROW<…>)`, unit words)
//! and write it as calls and types that the planner knows; `mod.rs` lists them.

use std::any::TypeId;
use std::cell::Cell;

use super::failure::carry;
use super::{data_type, interval, json_call, window_call};
use crate::functions::cast::CUT_FRACTION;
use datafusion_sql::sqlparser::ast::{
    Array, CastKind, DataType, ExactNumberInfo, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, Ident, ObjectName, UnaryOperator, Value,
};
use datafusion_sql::sqlparser::dialect::{Dialect, GenericDialect};
use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use datafusion_sql::sqlparser::tokenizer::{Token, Word};

#[derive(Debug, Default)]
pub(super) struct FlinkDialect {
    /// Index of the last token at which an expression began or ended well.
    farthest: Cell<usize>,
}

impl FlinkDialect {
    pub(super) fn farthest(&self) -> usize {
        self.farthest.get()
    }
}

impl Dialect for FlinkDialect {
    /// sqlparser asks for its own dialects by type in some places; the generic one is the nearest.
    fn dialect(&self) -> TypeId {
        TypeId::of::<GenericDialect>()
    }

    fn is_delimited_identifier_start(&self, c: char) -> bool {
        c == '"' || c == '`'
    }

    fn is_identifier_start(&self, c: char) -> bool {
        c.is_alphabetic() || c == '_'
    }

    fn is_identifier_part(&self, c: char) -> bool {
        c.is_alphanumeric() || c == '_' || c == '$'
    }

    fn identifier_quote_style(&self, _identifier: &str) -> Option<char> {
        Some('`')
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_comment_optimizer_hint(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn supports_window_clause_named_window_reference(&self) -> bool {
        true
    }

    fn supports_window_function_null_treatment_arg(&self) -> bool {
        true
    }

    fn supports_left_associative_joins_without_parens(&self) -> bool {
        true
    }

    fn supports_parens_around_table_factor(&self) -> bool {
        true
    }

    fn supports_match_recognize(&self) -> bool {
        true
    }

    fn supports_table_versioning(&self) -> bool {
        true
    }

    fn supports_unicode_string_literal(&self) -> bool {
        true
    }

    fn supports_string_escape_constant(&self) -> bool {
        true
    }

    fn supports_array_typedef_with_brackets(&self) -> bool {
        true
    }

    fn supports_comma_separated_trim(&self) -> bool {
        true
    }

    fn supports_interval_options(&self) -> bool {
        false
    }

    fn supports_select_wildcard_exclude(&self) -> bool {
        true
    }

    fn supports_select_wildcard_except(&self) -> bool {
        true
    }

    fn supports_select_wildcard_replace(&self) -> bool {
        true
    }

    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        self.farthest.set(self.farthest.get().max(parser.index()));
        prefix(parser)
    }

    fn parse_infix(&self, parser: &mut Parser, expr: &Expr, _precedence: u8) -> Option<Result<Expr, ParserError>> {
        if let Some(predicate) = is_json(parser, expr).or_else(|| is_distinct(parser, expr)) {
            return Some(predicate);
        }
        if !parser.consume_token(&Token::DoubleColon) {
            return None;
        }
        let data_type = match data_type::parse(parser) {
            Ok(data_type) => data_type,
            Err(error) => return Some(Err(error)),
        };
        let expr = Box::new(expr.clone());
        Some(Ok(cast_to(CastKind::DoubleColon, expr, data_type)))
    }

    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        // Asked once after each operand: all up to here made sense.
        self.farthest.set(self.farthest.get().max(parser.index()));
        // `j -> 'a' || 'x'` is the text behind the field, as in Postgres; sqlparser would look for a field `ax`.
        matches!(parser.peek_token_ref().token, Token::Arrow | Token::LongArrow).then_some(Ok(JSON_ACCESS_PRECEDENCE))
    }
}

/// Above arithmetic and comparisons, below `::`.
const JSON_ACCESS_PRECEDENCE: u8 = 45;

/// `x IS [NOT] JSON [VALUE | SCALAR | ARRAY | OBJECT]` becomes `is_json(x, 'VALUE')`.
fn is_json(parser: &mut Parser, expr: &Expr) -> Option<Result<Expr, ParserError>> {
    let next = |index: usize| match &parser.peek_nth_token_ref(index).token {
        Token::Word(word) if word.quote_style.is_none() => word.value.to_ascii_uppercase(),
        _ => String::new(),
    };
    let not = next(1) == "NOT";
    if next(0) != "IS" || next(1 + usize::from(not)) != "JSON" {
        return None;
    }
    let kind = next(2 + usize::from(not));
    let kind = ["VALUE", "SCALAR", "ARRAY", "OBJECT"].into_iter().find(|known| *known == kind);
    for _ in 0..2 + usize::from(not) + usize::from(kind.is_some()) {
        parser.advance_token();
    }
    let call = call("is_json", vec![expr.clone(), text(kind.unwrap_or("VALUE"))]);
    Some(Ok(if not { Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(call) } } else { call }))
}

/// `a IS [NOT] DISTINCT FROM b`, which is a comparison: sqlparser would take `b AND c` for its right side.
fn is_distinct(parser: &mut Parser, expr: &Expr) -> Option<Result<Expr, ParserError>> {
    use datafusion_sql::sqlparser::dialect::Precedence;
    let not = if parser.parse_keywords(&[Keyword::IS, Keyword::NOT, Keyword::DISTINCT, Keyword::FROM]) {
        true
    } else if parser.parse_keywords(&[Keyword::IS, Keyword::DISTINCT, Keyword::FROM]) {
        false
    } else {
        return None;
    };
    let left = Box::new(expr.clone());
    let right = match parser.parse_subexpr(GenericDialect.prec_value(Precedence::Eq)) {
        Ok(right) => Box::new(right),
        Err(error) => return Some(Err(error)),
    };
    Some(Ok(if not { Expr::IsNotDistinctFrom(left, right) } else { Expr::IsDistinctFrom(left, right) }))
}

fn prefix(parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
    if let Some(argument) = window_call::parse_partitioned_query(parser) {
        return Some(argument);
    }
    let word = match &parser.peek_token_ref().token {
        Token::Word(word) if word.quote_style.is_none() => word.clone(),
        // A number with an exponent is a DOUBLE; the planner would make a decimal of it.
        Token::Number(number, _) if number.contains(['e', 'E']) => {
            let expr = Box::new(text(number));
            parser.advance_token();
            let data_type = DataType::Double(ExactNumberInfo::None);
            return Some(Ok(plain_cast(CastKind::Cast, expr, data_type)));
        }
        _ => return None,
    };
    let start = parser.peek_token_ref().span.start;
    let next = parser.peek_nth_token_ref(1).token.clone();
    let called = next == Token::LParen;
    let result = match word.keyword {
        Keyword::TABLE if matches!(next, Token::Word(_)) => {
            parser.advance_token();
            window_call::parse_table_argument(parser)
        }
        Keyword::CAST if called => {
            parser.advance_token();
            cast(parser, CastKind::Cast)
        }
        Keyword::TRY_CAST if called => {
            parser.advance_token();
            cast(parser, CastKind::TryCast)
        }
        Keyword::INTERVAL if starts_interval(&next) => {
            parser.advance_token();
            interval::parse(parser)
        }
        Keyword::MAP if next == Token::LBracket => {
            parser.advance_token();
            map_literal(parser)
        }
        Keyword::CEIL | Keyword::FLOOR if called => ceil_floor(parser, &word),
        Keyword::EXTRACT if called => {
            parser.advance_token();
            extract(parser)
        }
        Keyword::SUBSTRING | Keyword::SUBSTR if called => {
            parser.advance_token();
            keyword_call(parser, "substring", &[Keyword::FROM, Keyword::FOR])
        }
        Keyword::OVERLAY if called => {
            parser.advance_token();
            keyword_call(parser, "overlay", &[Keyword::PLACING, Keyword::FROM, Keyword::FOR])
        }
        Keyword::POSITION if called => {
            parser.advance_token();
            position(parser)
        }
        _ if called && is_word(&word, &["TIMESTAMPDIFF", "TIMESTAMPADD"]) => {
            parser.advance_token();
            unit_call(parser, &word.value.to_ascii_lowercase())
        }
        _ if called && is_word(&word, json_call::NAMES) => {
            parser.advance_token();
            json_call::parse(parser, &word)
        }
        // Names that are these words stand in quotes; unquoted, an operand is missing before them.
        Keyword::FROM
        | Keyword::WHERE
        | Keyword::GROUP
        | Keyword::HAVING
        | Keyword::ORDER
        | Keyword::LIMIT
        | Keyword::JOIN
        | Keyword::ON
        | Keyword::UNION
        | Keyword::EXCEPT
        | Keyword::INTERSECT
        | Keyword::WHEN
        | Keyword::THEN
        | Keyword::ELSE
        | Keyword::AS
        | Keyword::AND
        | Keyword::OR
        | Keyword::BY
        | Keyword::SELECT => parser.expected("an expression", parser.peek_token()),
        Keyword::MATCH_RECOGNIZE => Err(carry(&super::limits::no_match_recognize(start))),
        _ => return None,
    };
    Some(result)
}

fn cast(parser: &mut Parser, kind: CastKind) -> Result<Expr, ParserError> {
    parser.expect_token(&Token::LParen)?;
    let expr = parser.parse_expr()?;
    parser.expect_keyword_is(Keyword::AS)?;
    let data_type = data_type::parse(parser)?;
    parser.expect_token(&Token::RParen)?;
    Ok(cast_to(kind, Box::new(expr), data_type))
}

/// A cast, and nothing else.
pub(crate) fn plain_cast(kind: CastKind, expr: Box<Expr>, data_type: DataType) -> Expr {
    Expr::Cast { kind, expr, data_type, array: false, format: None }
}

/// A cast. Times are held in milli-, micro- or nanoseconds: what a type between these has no digits for is
/// cut off.
fn cast_to(kind: CastKind, expr: Box<Expr>, data_type: DataType) -> Expr {
    let digits = match &data_type {
        DataType::Time(digits, _) | DataType::Timestamp(digits, _) => {
            digits.filter(|digits| digits % 3 != 0 || *digits == 0)
        }
        _ => None,
    };
    let is_time = matches!(data_type, DataType::Time(..));
    let cast = plain_cast(kind, expr, data_type);
    match digits {
        // TIME(0) is held in seconds.
        Some(0) if is_time => cast,
        Some(digits) => call(CUT_FRACTION, vec![cast, Expr::value(Value::Number(digits.to_string(), false))]),
        None => cast,
    }
}

/// `MAP[k, v, …]` becomes `map(ARRAY[k, …], ARRAY[v, …])`.
fn map_literal(parser: &mut Parser) -> Result<Expr, ParserError> {
    let open = parser.expect_token(&Token::LBracket)?;
    let items = if parser.peek_token_ref().token == Token::RBracket {
        Vec::new()
    } else {
        parser.parse_comma_separated(Parser::parse_expr)?
    };
    parser.expect_token(&Token::RBracket)?;
    if items.is_empty() || items.len() % 2 != 0 {
        let error = super::failure::syntax("MAP[…] takes pairs of a key and a value", open.span.start)
            .hint("write MAP['a', 1, 'b', 2]");
        return Err(carry(&error));
    }
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    for (index, item) in items.into_iter().enumerate() {
        if index % 2 == 0 { keys.push(item) } else { values.push(item) }
    }
    let list = |elem| Expr::Array(Array { elem, named: true });
    Ok(call("map", vec![list(keys), list(values)]))
}

/// `CEIL(t TO HOUR)` becomes `ceil_to('HOUR', t)`; `CEIL(x)` stays a call.
fn ceil_floor(parser: &mut Parser, word: &Word) -> Result<Expr, ParserError> {
    parser.advance_token();
    parser.expect_token(&Token::LParen)?;
    let value = parser.parse_expr()?;
    let name = word.value.to_ascii_lowercase();
    let expr = if parser.parse_keyword(Keyword::TO) {
        let unit = unit_word(parser)?;
        call(&format!("{name}_to"), vec![text(&unit), value])
    } else {
        call(&name, vec![value])
    };
    parser.expect_token(&Token::RParen)?;
    Ok(expr)
}

fn starts_interval(next: &Token) -> bool {
    matches!(next, Token::SingleQuotedString(_) | Token::Number(..) | Token::Minus | Token::Plus)
}

fn is_word(word: &Word, names: &[&str]) -> bool {
    names.iter().any(|name| word.value.eq_ignore_ascii_case(name))
}

/// A call with plain arguments.
pub(crate) fn call(name: &str, args: Vec<Expr>) -> Expr {
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

pub(crate) fn text(value: &str) -> Expr {
    Expr::value(Value::SingleQuotedString(value.to_owned()))
}

/// A unit such as `HOUR`, upper case and singular; a literal counts as a word.
fn unit_word(parser: &mut Parser) -> Result<String, ParserError> {
    let token = parser.next_token();
    let unit = match &token.token {
        Token::Word(word) => &word.value,
        Token::SingleQuotedString(value) => value,
        _ => return parser.expected("a unit such as SECOND, HOUR or DAY", token),
    };
    let unit = unit.to_ascii_uppercase();
    let unit = unit.strip_prefix("SQL_TSI_").unwrap_or(&unit);
    Ok(unit.strip_suffix('S').unwrap_or(unit).to_owned())
}

/// `f(UNIT, a, …)` becomes `f('UNIT', a, …)`.
fn unit_call(parser: &mut Parser, name: &str) -> Result<Expr, ParserError> {
    parser.expect_token(&Token::LParen)?;
    let mut args = vec![text(&unit_word(parser)?)];
    while parser.consume_token(&Token::Comma) {
        args.push(parser.parse_expr()?);
    }
    parser.expect_token(&Token::RParen)?;
    Ok(call(name, args))
}

fn extract(parser: &mut Parser) -> Result<Expr, ParserError> {
    parser.expect_token(&Token::LParen)?;
    let unit = unit_word(parser)?;
    parser.expect_keyword_is(Keyword::FROM)?;
    let value = parser.parse_expr()?;
    parser.expect_token(&Token::RParen)?;
    Ok(call("extract_unit", vec![text(&unit), value]))
}

/// `f(a FROM b FOR c)` or `f(a, b, c)`: the keywords, in order, do what commas do.
fn keyword_call(parser: &mut Parser, name: &str, separators: &[Keyword]) -> Result<Expr, ParserError> {
    parser.expect_token(&Token::LParen)?;
    let mut args = vec![parser.parse_expr()?];
    for keyword in separators {
        if parser.consume_token(&Token::Comma) || parser.parse_keyword(*keyword) {
            args.push(parser.parse_expr()?);
        }
    }
    parser.expect_token(&Token::RParen)?;
    Ok(call(name, args))
}

/// `POSITION(a IN b)` or `POSITION(a, b)`.
fn position(parser: &mut Parser) -> Result<Expr, ParserError> {
    use datafusion_sql::sqlparser::dialect::Precedence;
    parser.expect_token(&Token::LParen)?;
    // Above IN, so that the needle ends before it.
    let precedence = GenericDialect.prec_value(Precedence::Between);
    let needle = parser.parse_subexpr(precedence)?;
    if !parser.consume_token(&Token::Comma) {
        parser.expect_keyword_is(Keyword::IN)?;
    }
    let text = parser.parse_expr()?;
    parser.expect_token(&Token::RParen)?;
    Ok(call("position", vec![needle, text]))
}
