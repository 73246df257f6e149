//! Types as Flink writes them, to sqlparser's type AST (`types.rs` gives them their Arrow type).
//!
//! sqlparser reads the plain ones. Read here: `ROW<…>` and `ROW(…)`, `MAP<…>`, `ARRAY<…>` and `T ARRAY`
//! with `NOT NULL` inside, `TIMESTAMP_LTZ`, `WITH LOCAL TIME ZONE`, interval types.

use datafusion_sql::sqlparser::ast::{
    ArrayElemTypeDef, DataType, IntervalFields, StructBracketKind, StructField, TimezoneInfo,
};
use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use datafusion_sql::sqlparser::tokenizer::Token;

use super::failure::{carry, unsupported};

/// Parses a type, without the `NOT NULL` that may follow it.
pub(super) fn parse(parser: &mut Parser) -> Result<DataType, ParserError> {
    let (data_type, closed) = parse_inner(parser)?;
    if closed {
        return parser.expected("no second `>`", parser.peek_token());
    }
    Ok(data_type)
}

/// A type, and whether its last token was a `>>` that closes the type around it too.
fn parse_inner(parser: &mut Parser) -> Result<(DataType, bool), ParserError> {
    let (mut data_type, closed) = parse_base(parser)?;
    if closed {
        return Ok((data_type, true));
    }
    loop {
        if parser.parse_keyword(Keyword::ARRAY) {
            data_type = array_of(data_type);
        } else if parser.peek_token_ref().token == Token::LBracket
            && parser.peek_nth_token_ref(1).token == Token::RBracket
        {
            parser.advance_token();
            parser.advance_token();
            data_type = array_of(data_type);
        } else if is_word(parser, "MULTISET") {
            return Err(no_multiset(parser));
        } else {
            return Ok((data_type, false));
        }
    }
}

fn parse_base(parser: &mut Parser) -> Result<(DataType, bool), ParserError> {
    let token = parser.peek_token();
    let Token::Word(word) = &token.token else {
        return parser.expected("a type", token);
    };
    if word.quote_style.is_some() {
        return parser.expected("a type", token);
    }
    let name = word.value.to_ascii_uppercase();
    let next = parser.peek_nth_token_ref(1).token.clone();
    match name.as_str() {
        "ARRAY" => {
            parser.advance_token();
            parser.expect_token(&Token::Lt)?;
            let (element, closed) = element(parser)?;
            let closed = close(parser, closed)?;
            Ok((array_of(element), closed))
        }
        "MAP" => {
            parser.advance_token();
            parser.expect_token(&Token::Lt)?;
            let (key, closed) = element(parser)?;
            if closed {
                return parser.expected("`,` and the type of the values", parser.peek_token());
            }
            parser.expect_token(&Token::Comma)?;
            let (value, closed) = element(parser)?;
            let closed = close(parser, closed)?;
            Ok((DataType::Map(Box::new(key), Box::new(value)), closed))
        }
        "ROW" | "STRUCT" if matches!(next, Token::Lt | Token::LParen | Token::Neq) => {
            parser.advance_token();
            row(parser)
        }
        "MULTISET" => Err(no_multiset(parser)),
        "RAW" => Err(carry(&unsupported("type RAW is not supported", token.span.start).hint("use BYTES"))),
        "TIMESTAMP" => {
            parser.advance_token();
            let precision = parser.parse_optional_precision()?;
            let zone = time_zone(parser)?;
            Ok((DataType::Timestamp(precision, zone), false))
        }
        "TIMESTAMP_LTZ" | "TIMESTAMPTZ" => {
            parser.advance_token();
            Ok((DataType::Timestamp(parser.parse_optional_precision()?, TimezoneInfo::Tz), false))
        }
        "INTERVAL" => {
            parser.advance_token();
            interval(parser).map(|data_type| (data_type, false))
        }
        // sqlparser would read `TABLE` and the like as types of a function's result.
        "TABLE" | "SET" | "ENUM" | "UNION" | "NESTED" | "TUPLE" | "NULLABLE" | "LOWCARDINALITY" => {
            parser.expected("a type", token)
        }
        _ => parser.parse_data_type().map(|data_type| (data_type, false)),
    }
}

fn array_of(element: DataType) -> DataType {
    DataType::Array(ArrayElemTypeDef::AngleBracket(Box::new(element)))
}

/// A type within another, with the `NOT NULL` that Flink allows there. Arrow keeps every inner field
/// nullable, so the constraint on elements is accepted as documentation.
fn element(parser: &mut Parser) -> Result<(DataType, bool), ParserError> {
    let (data_type, closed) = parse_inner(parser)?;
    if !closed && !parser.parse_keywords(&[Keyword::NOT, Keyword::NULL]) {
        let _ = parser.parse_keyword(Keyword::NULL);
    }
    Ok((data_type, closed))
}

/// Takes the `>` of a type. Returns whether it was a `>>` that closes the type around it too.
fn close(parser: &mut Parser, closed: bool) -> Result<bool, ParserError> {
    if closed {
        return Ok(false);
    }
    if parser.consume_token(&Token::ShiftRight) {
        return Ok(true);
    }
    parser.expect_token(&Token::Gt)?;
    Ok(false)
}

fn row(parser: &mut Parser) -> Result<(DataType, bool), ParserError> {
    let brackets = StructBracketKind::AngleBrackets;
    if parser.consume_token(&Token::Neq) {
        return Ok((DataType::Struct(Vec::new(), brackets), false));
    }
    let parenthesised = parser.consume_token(&Token::LParen);
    if !parenthesised {
        parser.expect_token(&Token::Lt)?;
    }
    let mut fields = Vec::new();
    let mut closed = false;
    loop {
        let name = parser.parse_identifier()?;
        let (field_type, ended) = element(parser)?;
        closed |= ended;
        fields.push(StructField { field_name: Some(name), field_type, options: None });
        if !closed && parser.parse_keyword(Keyword::COMMENT) {
            parser.parse_literal_string()?;
        }
        if closed || !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    if parenthesised {
        if closed {
            return parser.expected("`)`", parser.peek_token());
        }
        parser.expect_token(&Token::RParen)?;
    } else {
        closed = close(parser, closed)?;
    }
    Ok((DataType::Struct(fields, brackets), closed))
}

fn time_zone(parser: &mut Parser) -> Result<TimezoneInfo, ParserError> {
    if parser.parse_keywords(&[Keyword::WITHOUT, Keyword::TIME, Keyword::ZONE]) {
        return Ok(TimezoneInfo::WithoutTimeZone);
    }
    if parser.parse_keywords(&[Keyword::WITH, Keyword::LOCAL, Keyword::TIME, Keyword::ZONE]) {
        return Ok(TimezoneInfo::Tz);
    }
    let at = parser.peek_token_ref().span.start;
    if parser.parse_keywords(&[Keyword::WITH, Keyword::TIME, Keyword::ZONE]) {
        let error = unsupported("TIMESTAMP WITH TIME ZONE is not supported", at)
            .hint("use TIMESTAMP_LTZ, a point in time, or keep the zone in a column of its own");
        return Err(carry(&error));
    }
    Ok(TimezoneInfo::None)
}

/// `INTERVAL DAY(2) TO SECOND(3)` and the like, after `INTERVAL`.
fn interval(parser: &mut Parser) -> Result<DataType, ParserError> {
    let units = [Keyword::YEAR, Keyword::MONTH, Keyword::DAY, Keyword::HOUR, Keyword::MINUTE, Keyword::SECOND];
    let first = parser.parse_one_of_keywords(&units);
    let fields = match first {
        None => None,
        Some(first) => {
            parser.parse_optional_precision()?;
            let last = if parser.parse_keyword(Keyword::TO) { parser.parse_one_of_keywords(&units) } else { None };
            if last.is_some() {
                parser.parse_optional_precision()?;
            }
            let is_months = matches!(first, Keyword::YEAR | Keyword::MONTH);
            Some(if is_months { IntervalFields::YearToMonth } else { IntervalFields::DayToSecond })
        }
    };
    Ok(DataType::Interval { fields, precision: None })
}

fn is_word(parser: &Parser, name: &str) -> bool {
    matches!(&parser.peek_token_ref().token, Token::Word(word) if word.value.eq_ignore_ascii_case(name))
}

fn no_multiset(parser: &Parser) -> ParserError {
    let at = parser.peek_token_ref().span.start;
    carry(&unsupported("type MULTISET is not supported", at).hint("use ARRAY<T> or MAP<T, INT>"))
}
