//! SQL/JSON calls, whose arguments end in clauses: `JSON_VALUE(j, '$.a' RETURNING INT NULL ON ERROR)`.
//!
//! The clauses become plain arguments: what to do on an empty result and on an error, each `'NULL'`,
//! `'ERROR'`, `'DEFAULT'` (the default follows) or a word of the function's own.

use datafusion_sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion_sql::sqlparser::ast::{BinaryOperator, CaseWhen, CastKind, DataType, Expr, Value};
use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use datafusion_sql::sqlparser::tokenizer::{Token, Word};

use super::data_type;
use super::dialect::{call, plain_cast, text};
use super::failure::{carry, unsupported};

/// The elements of a JSON array as texts.
pub(crate) const ELEMENTS: &str = "json_elements";

/// The functions read here.
pub(super) const NAMES: &[&str] = &["JSON_VALUE", "JSON_QUERY", "JSON_EXISTS", "JSON_OBJECT", "JSON_ARRAY"];

/// Parses the call behind its name.
pub(super) fn parse(parser: &mut Parser, word: &Word) -> Result<Expr, ParserError> {
    parser.expect_token(&Token::LParen)?;
    let name = word.value.to_ascii_lowercase();
    match name.as_str() {
        "json_object" => object(parser),
        "json_array" => array(parser),
        _ => path_call(parser, &name),
    }
}

/// `JSON_VALUE`, `JSON_QUERY` and `JSON_EXISTS`.
fn path_call(parser: &mut Parser, name: &str) -> Result<Expr, ParserError> {
    let mut args = vec![parser.parse_expr()?];
    parser.expect_token(&Token::Comma)?;
    args.push(parser.parse_expr()?);
    let returning = if parser.parse_keyword(Keyword::RETURNING) { Some(data_type::parse(parser)?) } else { None };
    if name == "json_query" {
        args.push(text(wrapper(parser)));
    }
    let mut on_empty = ("NULL".to_owned(), null());
    let mut on_error = if name == "json_exists" { ("FALSE".to_owned(), null()) } else { on_empty.clone() };
    while let Some(behaviour) = behaviour(parser)? {
        parser.expect_keyword_is(Keyword::ON)?;
        let token = parser.next_token();
        match &token.token {
            Token::Word(word) if word.value.eq_ignore_ascii_case("EMPTY") => on_empty = behaviour,
            Token::Word(word) if word.value.eq_ignore_ascii_case("ERROR") => on_error = behaviour,
            _ => return parser.expected("EMPTY or ERROR", token),
        }
    }
    parser.expect_token(&Token::RParen)?;
    if name == "json_exists" {
        args.push(text(&on_error.0));
        return Ok(call(name, args));
    }
    let otherwise = on_error.clone();
    args.extend([text(&on_empty.0), on_empty.1, text(&on_error.0), on_error.1]);
    // Defaults are given in the type that is returned; the call itself works on text.
    let found = call(name, args);
    let Some(data_type) = returning else { return Ok(found) };
    let value = match &data_type {
        DataType::Array(_) if name == "json_query" => call(ELEMENTS, vec![found.clone()]),
        _ => found.clone(),
    };
    let cast = |kind, expr| plain_cast(kind, Box::new(expr), data_type.clone());
    Ok(match otherwise.0.as_str() {
        "ERROR" => cast(CastKind::Cast, value),
        // A value that is not of the type is an error too.
        "DEFAULT" => Expr::Case {
            case_token: AttachedToken::empty(),
            end_token: AttachedToken::empty(),
            operand: None,
            conditions: vec![CaseWhen {
                condition: Expr::BinaryOp {
                    left: Box::new(Expr::IsNotNull(Box::new(found))),
                    op: BinaryOperator::And,
                    right: Box::new(Expr::IsNull(Box::new(cast(CastKind::TryCast, value.clone())))),
                },
                result: cast(CastKind::Cast, otherwise.1),
            }],
            else_result: Some(Box::new(cast(CastKind::TryCast, value))),
        },
        _ => cast(CastKind::TryCast, value),
    })
}

fn wrapper(parser: &mut Parser) -> &'static str {
    let array = |parser: &mut Parser| {
        take(parser, "ARRAY");
        take(parser, "WRAPPER");
    };
    if take(parser, "WITHOUT") {
        array(parser);
        "WITHOUT"
    } else if parser.parse_keyword(Keyword::WITH) {
        let conditional = take(parser, "CONDITIONAL");
        if !conditional {
            take(parser, "UNCONDITIONAL");
        }
        array(parser);
        if conditional { "CONDITIONAL" } else { "UNCONDITIONAL" }
    } else {
        "WITHOUT"
    }
}

/// `NULL`, `ERROR`, `DEFAULT expr`, `TRUE`, `FALSE`, `UNKNOWN`, `EMPTY ARRAY`, `EMPTY OBJECT` before `ON`.
fn behaviour(parser: &mut Parser) -> Result<Option<(String, Expr)>, ParserError> {
    if parser.parse_keyword(Keyword::DEFAULT) {
        let value = parser.parse_expr()?;
        let value = plain_cast(CastKind::Cast, Box::new(value), DataType::String(None));
        return Ok(Some(("DEFAULT".to_owned(), value)));
    }
    for word in ["NULL", "ERROR", "TRUE", "FALSE", "UNKNOWN"] {
        if take(parser, word) {
            return Ok(Some((word.to_owned(), null())));
        }
    }
    if take(parser, "EMPTY") {
        let kind = if take(parser, "OBJECT") { "EMPTY OBJECT" } else { "EMPTY ARRAY" };
        if kind == "EMPTY ARRAY" && !take(parser, "ARRAY") {
            return parser.expected("ARRAY or OBJECT after EMPTY", parser.peek_token());
        }
        return Ok(Some((kind.to_owned(), null())));
    }
    Ok(None)
}

/// `JSON_OBJECT([KEY] k VALUE v, … [NULL|ABSENT ON NULL])`.
fn object(parser: &mut Parser) -> Result<Expr, ParserError> {
    let mut args = Vec::new();
    if parser.peek_token_ref().token != Token::RParen && !peek_on_null(parser) {
        loop {
            if peek(parser, 0, "KEY")
                && matches!(parser.peek_nth_token_ref(1).token, Token::SingleQuotedString(_) | Token::Word(_))
            {
                parser.advance_token();
            }
            args.push(parser.parse_expr()?);
            if !take(parser, "VALUE") && !parser.consume_token(&Token::Colon) {
                return parser.expected("VALUE", parser.peek_token());
            }
            args.push(parser.parse_expr()?);
            refuse_format(parser)?;
            if !parser.consume_token(&Token::Comma) {
                break;
            }
        }
    }
    finish(parser, "json_object", "NULL", args)
}

/// `JSON_ARRAY(v, … [NULL|ABSENT ON NULL])`.
fn array(parser: &mut Parser) -> Result<Expr, ParserError> {
    let mut args = Vec::new();
    if parser.peek_token_ref().token != Token::RParen && !peek_on_null(parser) {
        loop {
            args.push(parser.parse_expr()?);
            refuse_format(parser)?;
            if !parser.consume_token(&Token::Comma) {
                break;
            }
        }
    }
    finish(parser, "json_array", "ABSENT", args)
}

fn finish(parser: &mut Parser, name: &str, standard: &str, mut args: Vec<Expr>) -> Result<Expr, ParserError> {
    let mut mode = standard;
    for word in ["NULL", "ABSENT"] {
        if take(parser, word) {
            parser.expect_keyword_is(Keyword::ON)?;
            parser.expect_keyword_is(Keyword::NULL)?;
            mode = word;
        }
    }
    parser.expect_token(&Token::RParen)?;
    // What is JSON itself stands as it is, not as a text: the places of such values follow the mode.
    let raw = args.iter().enumerate().filter(|(_, value)| is_json(value)).map(|(place, _)| format!(" {}", place + 1));
    args.insert(0, text(&format!("{mode}{}", raw.collect::<String>())));
    Ok(call(name, args))
}

/// Whether a value is made as JSON.
fn is_json(value: &Expr) -> bool {
    match value {
        Expr::Nested(inner) => is_json(inner),
        Expr::Function(function) => {
            let name = function.name.to_string().to_ascii_lowercase();
            matches!(name.as_str(), "json_object" | "json_array")
        }
        _ => false,
    }
}

fn refuse_format(parser: &mut Parser) -> Result<(), ParserError> {
    if peek(parser, 0, "FORMAT") {
        let at = parser.peek_token_ref().span.start;
        return Err(carry(&unsupported("FORMAT JSON is not supported", at)));
    }
    Ok(())
}

fn peek_on_null(parser: &Parser) -> bool {
    (peek(parser, 0, "NULL") || peek(parser, 0, "ABSENT")) && peek(parser, 1, "ON")
}

fn peek(parser: &Parser, index: usize, word: &str) -> bool {
    matches!(&parser.peek_nth_token_ref(index).token, Token::Word(found)
        if found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word))
}

fn take(parser: &mut Parser, word: &str) -> bool {
    let found = peek(parser, 0, word);
    if found {
        parser.advance_token();
    }
    found
}

fn null() -> Expr {
    Expr::value(Value::Null)
}
