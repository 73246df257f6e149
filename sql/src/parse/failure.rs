//! What the parser says, in plain words, at the place where it stands.

use datafusion_sql::sqlparser::parser::ParserError;
use datafusion_sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan};
use qanat_proto::{Code, Error, Place, limits};

/// sqlparser's message ends in this when it knows a place.
const PLACE_MARK: &str = " at Line: ";

/// Marks an error of ours, with code and hint, on its way through sqlparser.
const CARRIED: &str = "\u{1}qanat:";

/// Wraps an error of ours so that it passes through sqlparser.
pub(super) fn carry(error: &Error) -> ParserError {
    match serde_json::to_string(error) {
        Ok(text) => ParserError::ParserError(format!("{CARRIED}{text}")),
        Err(_) => ParserError::ParserError(error.message().to_owned()),
    }
}

/// A syntax error. `farthest` is the token up to which the text made sense.
pub(super) fn from_parser(error: &ParserError, farthest: Option<&TokenWithSpan>) -> Error {
    let text = match error {
        ParserError::RecursionLimitExceeded => return too_deep(farthest.map(|token| token.span.start)),
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text,
    };
    if let Some(error) = text.strip_prefix(CARRIED).and_then(|json| serde_json::from_str(json).ok()) {
        return error;
    }
    let (message, location) = split_place(text);
    // The parser tries several readings and reports the last; the text made sense at least up to
    // `farthest`, so the mistake is there and not where the last reading began.
    if let (Some(token), Some(at)) = (farthest, location)
        && token.span.start > at
        && token.token != Token::EOF
    {
        return Error::new(Code::SqlSyntax, format!("unexpected {}", describe(&token.token)))
            .at(place(token.span.start));
    }
    let error = Error::new(Code::SqlSyntax, plain(message));
    match location.or_else(|| farthest.map(|token| token.span.start)).filter(|at| at.line > 0) {
        Some(at) => error.at(place(at)),
        None => error,
    }
}

pub(super) fn too_deep(at: Option<Location>) -> Error {
    let error = Error::new(
        Code::SqlLimit,
        format!("expressions or queries are nested deeper than {} levels", limits::SQL_DEPTH_MAX),
    )
    .hint("put inner parts into views with CREATE TEMPORARY VIEW");
    match at.filter(|at| at.line > 0) {
        Some(at) => error.at(place(at)),
        None => error,
    }
}

pub(super) fn syntax(message: impl Into<String>, at: Location) -> Error {
    located(Error::new(Code::SqlSyntax, message), at)
}

pub(super) fn unsupported(message: impl Into<String>, at: Location) -> Error {
    located(Error::new(Code::SqlUnsupported, message), at)
}

/// The end of the text has no place of its own; whoever drives the parser gives it one.
fn located(error: Error, at: Location) -> Error {
    if at.line > 0 { error.at(place(at)) } else { error }
}

pub(super) fn expected(what: &str, found: &TokenWithSpan) -> Error {
    syntax(format!("expected {what}, found {}", describe(&found.token)), found.span.start)
}

/// A token as a reader would name it.
pub(super) fn describe(token: &Token) -> String {
    match token {
        Token::EOF => "the end of the text".to_owned(),
        Token::SemiColon => "the end of the statement".to_owned(),
        other => {
            let text = other.to_string();
            if text.chars().count() > 40 {
                format!("`{}…`", text.chars().take(40).collect::<String>())
            } else {
                format!("`{text}`")
            }
        }
    }
}

fn plain(message: &str) -> String {
    let message = message.trim().trim_end_matches('.');
    if let Some((wanted, found)) = message.strip_prefix("Expected: ").and_then(|rest| rest.rsplit_once(", found: ")) {
        let found = match found {
            "EOF" => "the end of the text".to_owned(),
            ";" => "the end of the statement".to_owned(),
            other => format!("`{other}`"),
        };
        let is_sign = !wanted.is_empty() && wanted.chars().all(|c| c.is_ascii_punctuation());
        let wanted = if is_sign { format!("`{wanted}`") } else { wanted.trim_end_matches(':').to_owned() };
        return format!("expected {wanted}, found {found}");
    }
    let mut characters = message.chars();
    characters.next().map_or_else(
        || "this is no statement of the dialect".to_owned(),
        |first| first.to_lowercase().chain(characters).collect(),
    )
}

/// Splits `… at Line: 1, Column: 8` off.
fn split_place(text: &str) -> (&str, Option<Location>) {
    let Some((message, tail)) = text.rsplit_once(PLACE_MARK) else { return (text, None) };
    let location = tail.split_once(", Column: ").and_then(|(line, column)| {
        Some(Location { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? })
    });
    match location {
        Some(location) => (message, Some(location)),
        None => (text, None),
    }
}

pub(super) fn place(at: Location) -> Place {
    Place::Sql { line: at.line, column: at.column }
}
