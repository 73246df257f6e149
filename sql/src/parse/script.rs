//! From text to located statements: variables, tokens, limits, then one statement after another.

use std::collections::BTreeMap;

use datafusion_sql::sqlparser::ast::{DataType, Expr};
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use datafusion_sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};
use qanat_proto::{Code, Error, Place, Result, limits as caps};

use super::dialect::FlinkDialect;
use super::stack::on_deep_stack;
use super::variables::{Filled, fill};
use super::{Located, Script, data_type, failure, limits, statement};

/// The parser's own bound of recursion: every level of nesting that `limits` lets through passes a few
/// of its functions (query, body, factor, expression).
const RECURSION_MAX: usize = 8 * caps::SQL_DEPTH_MAX;

pub(super) fn parse(text: &str, variables: &BTreeMap<String, String>) -> Result<Script> {
    limits::check_length(text)?;
    let filled = fill(text, variables)?;
    limits::check_length(&filled.text)?;
    on_deep_stack(|| {
        let lines = LineIndex::new(text);
        let statements = with_parser(&filled, |reader| {
            let mut statements = Vec::new();
            loop {
                while reader.parser.consume_token(&Token::SemiColon) {}
                let start = reader.parser.peek_token_ref().clone();
                if start.token == Token::EOF {
                    return Ok(statements);
                }
                let statement = statement::parse(reader)?;
                let end = reader.parser.peek_token_ref().clone();
                if !matches!(end.token, Token::SemiColon | Token::EOF) {
                    return Err(reader.unexpected(&end));
                }
                let Location { line, column } = start.span.start;
                let text =
                    lines.slice(start.span.start, (end.token != Token::EOF).then_some(end.span.start)).to_owned();
                statements.push(Located { statement, line, column, text });
            }
        })?;
        Ok(Script { statements })
    })
}

pub(super) fn parse_expression(text: &str) -> Result<Expr> {
    parse_one(text, |reader| reader.lift(|parser| parser.parse_expr()))
}

pub(super) fn parse_data_type(text: &str) -> Result<DataType> {
    parse_one(text, |reader| reader.lift(data_type::parse))
}

fn parse_one<T: Send>(text: &str, read: impl FnOnce(&mut Reader) -> Result<T> + Send) -> Result<T> {
    limits::check_length(text)?;
    let filled = fill(text, &BTreeMap::new())?;
    on_deep_stack(|| {
        with_parser(&filled, |reader| {
            let value = read(reader)?;
            let end = reader.parser.peek_token();
            if end.token == Token::EOF { Ok(value) } else { Err(reader.unexpected(&end)) }
        })
    })
}

/// sqlparser's parser with what our statements need around it.
pub(super) struct Reader<'a> {
    pub(super) parser: Parser<'a>,
    dialect: &'a FlinkDialect,
}

fn with_parser<T>(filled: &Filled, read: impl FnOnce(&mut Reader) -> Result<T>) -> Result<T> {
    let dialect = FlinkDialect::default();
    let mut tokens = Tokenizer::new(&dialect, &filled.text).tokenize_with_location().map_err(|error| {
        let at = filled.original(error.location);
        let message = match error.message.as_str() {
            "Unterminated string literal" => "a text in quotes is not closed".to_owned(),
            other => other.chars().next().map_or_else(String::new, |c| {
                c.to_lowercase().collect::<String>() + other.get(c.len_utf8()..).unwrap_or_default()
            }),
        };
        Error::new(Code::SqlSyntax, message).at(Place::Sql { line: at.line, column: at.column })
    })?;
    filled.restore_places(&mut tokens);
    limits::check_tokens(&tokens)?;
    let is_word = |token: &&TokenWithSpan| !matches!(token.token, Token::Whitespace(_) | Token::EOF);
    let end = tokens.iter().rev().find(is_word).map_or(Location { line: 1, column: 1 }, |token| token.span.end);
    let parser = Parser::new(&dialect).with_recursion_limit(RECURSION_MAX).with_tokens_with_locations(tokens);
    read(&mut Reader { parser, dialect: &dialect })
        .map_err(|error| error.or_at(|| Place::Sql { line: end.line, column: end.column }))
}

impl<'a> Reader<'a> {
    /// Runs a piece of sqlparser and says its error in our words.
    pub(super) fn lift<T>(&mut self, read: impl FnOnce(&mut Parser<'a>) -> Result<T, ParserError>) -> Result<T> {
        read(&mut self.parser).map_err(|error| {
            let farthest = self.farthest().clone();
            failure::from_parser(&error, Some(&farthest))
        })
    }

    /// The token up to which expressions made sense.
    fn farthest(&self) -> &TokenWithSpan {
        let mut index = self.dialect.farthest();
        while matches!(self.parser.token_at(index).token, Token::Whitespace(_)) {
            index += 1;
        }
        self.parser.token_at(index)
    }

    /// The error for a token that should not be there.
    pub(super) fn unexpected(&self, token: &TokenWithSpan) -> Error {
        let farthest = self.farthest();
        let token = if farthest.span.start > token.span.start { farthest } else { token };
        let error = failure::syntax(format!("unexpected {}", failure::describe(&token.token)), token.span.start);
        match &token.token {
            Token::Word(word) if word.quote_style.is_none() => {
                error.hint("if this begins a new statement, end the one before with `;`; a name that is a keyword stands in `backticks`")
            }
            _ => error,
        }
    }

    pub(super) fn expected(&self, what: &str) -> Error {
        failure::expected(what, self.parser.peek_token_ref())
    }

    /// Where the next token stands.
    pub(super) fn here(&self) -> Location {
        self.parser.peek_token_ref().span.start
    }

    pub(super) fn place(&self) -> Place {
        let Location { line, column } = self.here();
        Place::Sql { line, column }
    }

    /// Text of the tokens from index `from` up to the next one, spaced by the parser's own rules.
    pub(super) fn text_since(&self, from: usize) -> String {
        let mut text = String::new();
        for index in from..self.parser.index() {
            let token = self.parser.token_at(index);
            match &token.token {
                Token::EOF => break,
                other => text.push_str(&other.to_string()),
            }
        }
        text.trim().to_owned()
    }

    /// Takes the word if it is next, however it is cased.
    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let found = self.peek_word(0, word);
        if found {
            self.parser.advance_token();
        }
        found
    }

    pub(super) fn take_words(&mut self, words: &[&str]) -> bool {
        let found = words.iter().enumerate().all(|(index, word)| self.peek_word(index, word));
        if found {
            for _ in words {
                self.parser.advance_token();
            }
        }
        found
    }

    pub(super) fn peek_word(&self, index: usize, word: &str) -> bool {
        matches!(&self.parser.peek_nth_token_ref(index).token, Token::Word(found)
            if found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word))
    }

    pub(super) fn need_words(&mut self, words: &[&str]) -> Result<()> {
        for word in words {
            if !self.take_word(word) {
                return Err(self.expected(&format!("{word} in `{}`", words.join(" "))));
            }
        }
        Ok(())
    }

    pub(super) fn take(&mut self, token: &Token) -> bool {
        self.parser.consume_token(token)
    }

    pub(super) fn need(&mut self, token: &Token) -> Result<()> {
        if self.take(token) { Ok(()) } else { Err(self.expected(&format!("`{token}`"))) }
    }

    /// A text in single quotes.
    pub(super) fn need_text(&mut self, what: &str) -> Result<String> {
        match self.parser.peek_token_ref().token.clone() {
            Token::SingleQuotedString(text) => {
                self.parser.advance_token();
                Ok(text)
            }
            _ => Err(self.expected(&format!("{what} in single quotes"))),
        }
    }
}

/// Finds pieces of the original text by line and column.
struct LineIndex<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> LineIndex<'a> {
    fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(index, _)| index + 1)).collect();
        Self { text, starts }
    }

    fn offset(&self, at: Location) -> usize {
        let line = usize::try_from(at.line.saturating_sub(1)).unwrap_or(usize::MAX);
        let Some(start) = self.starts.get(line).copied() else { return self.text.len() };
        let columns = usize::try_from(at.column.saturating_sub(1)).unwrap_or(usize::MAX);
        let rest = self.text.get(start..).unwrap_or_default();
        start + rest.char_indices().nth(columns).map_or(rest.len(), |(index, _)| index)
    }

    /// From one position to another or to the end, without white space around.
    fn slice(&self, from: Location, to: Option<Location>) -> &'a str {
        let end = to.map_or(self.text.len(), |to| self.offset(to));
        self.text.get(self.offset(from)..end).unwrap_or_default().trim()
    }
}
