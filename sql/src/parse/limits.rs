//! Limits and refusals that are judged on tokens, before the recursive parser runs.
//!
//! What is bounded: text bytes, nesting, the height of the tree that a flat chain becomes (sqlparser makes
//! a left-deep tree of `a + b + …`, and everything behind it recurses), items of one select list, joins.

use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Whitespace};
use qanat_proto::{Code, Error, Place, Result, limits};

use super::failure::{too_deep, unsupported};
use super::hint;

/// # Errors
/// E0107 if the text is longer than a script may be.
pub(super) fn check_length(text: &str) -> Result<()> {
    if text.len() <= limits::SQL_TEXT_BYTES_MAX {
        return Ok(());
    }
    Err(Error::new(
        Code::SqlLimit,
        format!("the script has {} bytes; at most {} are read", text.len(), limits::SQL_TEXT_BYTES_MAX),
    )
    .hint("put values that were generated into a file and read it as a table"))
}

/// Height of the expression that is being read at one level of nesting.
#[derive(Default)]
struct Level {
    or: usize,
    and: usize,
    other: usize,
    best_and: usize,
    best_other: usize,
    /// Of what stands in parentheses within.
    inner: usize,
    /// Highest finished expression.
    finished: usize,
    /// Commas of a select list; `None` outside one.
    items: Option<usize>,
    sets: usize,
    /// Prefix operators in a row: each is one level of recursion.
    prefixes: usize,
    bracket: Bracket,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Bracket {
    #[default]
    Round,
    /// Of a type: `ARRAY<…`.
    Angle,
    /// `CASE … END`.
    Case,
}

impl Level {
    fn height(&self) -> usize {
        self.or + self.best_and.max(self.and) + self.best_other.max(self.other) + self.inner
    }

    fn finish(&mut self) {
        self.finished = self.finished.max(self.height());
        (self.or, self.and, self.other, self.best_and, self.best_other, self.inner) = (0, 0, 0, 0, 0, 0);
    }
}

/// Checks the tokens of a script.
///
/// # Errors
/// E0107 for a limit, E0102 for `MATCH_RECOGNIZE`, and those of [`hint::check`]; each with its place.
pub(super) fn check_tokens(tokens: &[TokenWithSpan]) -> Result<()> {
    let mut levels = vec![Level::default()];
    let mut joins = 0_usize;
    let mut previous = &Token::EOF;
    for TokenWithSpan { token, span } in tokens {
        if let Token::Whitespace(space) = token {
            if let Whitespace::MultiLineComment(comment) = space
                && comment.starts_with('+')
            {
                let follows_select = matches!(previous, Token::Word(word) if word.keyword == Keyword::SELECT);
                hint::check(comment, follows_select, span.start)?;
            }
            continue;
        }
        let is_generic = matches!(previous, Token::Word(word)
            if word.quote_style.is_none() && ["ARRAY", "MAP", "ROW", "STRUCT", "MULTISET"].iter().any(|w| word.value.eq_ignore_ascii_case(w)));
        match token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                if *token == Token::LBracket {
                    // `a[1][2]…` and `INT[][]…` are chains.
                    last(&mut levels).other += 1;
                    check_height(&levels, span.start)?;
                }
                open(&mut levels, span.start, Bracket::Round)?;
            }
            Token::Lt if is_generic => open(&mut levels, span.start, Bracket::Angle)?,
            Token::RParen | Token::RBracket | Token::RBrace => {
                while levels.len() > 1 && last(&mut levels).bracket != Bracket::Round {
                    close(&mut levels);
                }
                close(&mut levels);
            }
            Token::Gt | Token::ShiftRight if last(&mut levels).bracket == Bracket::Angle => {
                close(&mut levels);
                if *token == Token::ShiftRight && last(&mut levels).bracket == Bracket::Angle {
                    close(&mut levels);
                }
            }
            Token::SemiColon => levels = vec![Level::default()],
            Token::Comma => {
                let level = last(&mut levels);
                level.finish();
                level.prefixes = 0;
                if let Some(items) = level.items.as_mut() {
                    *items += 1;
                    if *items >= limits::COLUMNS_MAX {
                        return Err(passed(format!("more than {} columns", limits::COLUMNS_MAX), span.start));
                    }
                }
            }
            Token::Word(word) if word.quote_style.is_none() => {
                joins += usize::from(word.keyword == Keyword::JOIN);
                if joins > limits::JOINS_MAX {
                    return Err(passed(format!("more than {} joins in one script", limits::JOINS_MAX), span.start));
                }
                check_word(word.keyword, &mut levels, previous, span.start)?;
            }
            Token::Number(..) | Token::SingleQuotedString(_) | Token::Word(_) => last(&mut levels).prefixes = 0,
            Token::Period | Token::RArrow | Token::EOF => {}
            // Everything else is an operator.
            _ => {
                let level = last(&mut levels);
                level.other += 1;
                level.prefixes += 1;
                if level.prefixes > limits::SQL_DEPTH_MAX {
                    return Err(too_deep(Some(span.start)));
                }
                check_height(&levels, span.start)?;
            }
        }
        previous = token;
    }
    Ok(())
}

fn check_word(keyword: Keyword, levels: &mut Vec<Level>, previous: &Token, at: Location) -> Result<()> {
    if keyword == Keyword::MATCH_RECOGNIZE {
        return Err(no_match_recognize(at));
    }
    let level = last(levels);
    match keyword {
        Keyword::NOT | Keyword::INTERVAL | Keyword::PRIOR | Keyword::EXISTS => {
            level.prefixes += 1;
            if level.prefixes > limits::SQL_DEPTH_MAX || (keyword == Keyword::INTERVAL && is_interval(previous)) {
                return Err(too_deep(Some(at)));
            }
            return Ok(());
        }
        Keyword::CASE => return open(levels, at, Bracket::Case),
        Keyword::END if level.bracket == Bracket::Case => {
            close(levels);
            return Ok(());
        }
        Keyword::OR => {
            level.best_and = level.best_and.max(level.and);
            level.best_other = level.best_other.max(level.other);
            (level.and, level.other) = (0, 0);
            level.or += 1;
        }
        Keyword::AND => {
            level.best_other = level.best_other.max(level.other);
            level.other = 0;
            level.and += 1;
        }
        Keyword::IS
        | Keyword::LIKE
        | Keyword::ILIKE
        | Keyword::SIMILAR
        | Keyword::BETWEEN
        | Keyword::IN
        | Keyword::COLLATE
        | Keyword::AT
        | Keyword::XOR
        | Keyword::DIV
        | Keyword::RLIKE
        | Keyword::REGEXP => level.other += 1,
        Keyword::SELECT => {
            level.finish();
            level.items = Some(0);
        }
        Keyword::FROM
        | Keyword::WHERE
        | Keyword::GROUP
        | Keyword::HAVING
        | Keyword::ORDER
        | Keyword::LIMIT
        | Keyword::WHEN
        | Keyword::THEN
        | Keyword::ELSE
        | Keyword::ON
        | Keyword::WINDOW => {
            level.finish();
            // `EXTRACT(x FROM y)` and the like stand in parentheses of their own, so this FROM is a clause.
            if level.bracket != Bracket::Case && keyword != Keyword::ON {
                level.items = None;
            }
        }
        Keyword::JOIN => {
            level.finish();
        }
        Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT => {
            level.finish();
            level.items = None;
            level.sets += 1;
            if level.sets > limits::SQL_CHAIN_MAX {
                return Err(passed(format!("more than {} queries in one UNION", limits::SQL_CHAIN_MAX), at));
            }
        }
        _ => {}
    }
    level.prefixes = 0;
    check_height(levels, at)
}

fn is_interval(token: &Token) -> bool {
    matches!(token, Token::Word(word) if word.keyword == Keyword::INTERVAL)
}

pub(super) fn no_match_recognize(at: Location) -> Error {
    unsupported("MATCH_RECOGNIZE is not supported yet", at)
        .hint("patterns over a few rows can often be written with SESSION windows or a self-join within a window")
}

fn open(levels: &mut Vec<Level>, at: Location, bracket: Bracket) -> Result<()> {
    if levels.len() > limits::SQL_DEPTH_MAX {
        return Err(too_deep(Some(at)));
    }
    levels.push(Level { bracket, ..Level::default() });
    Ok(())
}

fn close(levels: &mut Vec<Level>) {
    if levels.len() < 2 {
        return;
    }
    if let Some(mut inner) = levels.pop() {
        inner.finish();
        let level = last(levels);
        level.inner = level.inner.max(inner.finished + 1);
        level.prefixes = 0;
    }
}

fn check_height(levels: &[Level], at: Location) -> Result<()> {
    if levels.last().is_some_and(|level| level.height() > limits::SQL_CHAIN_MAX) {
        return Err(passed(format!("an expression with a chain of more than {} operators", limits::SQL_CHAIN_MAX), at)
            .hint("use IN (…) for many values, CONCAT_WS or GREATEST for many arguments, or a view for a part of it"));
    }
    Ok(())
}

fn passed(message: String, at: Location) -> Error {
    Error::new(Code::SqlLimit, message).at(Place::Sql { line: at.line, column: at.column })
}

fn last(levels: &mut Vec<Level>) -> &mut Level {
    if levels.is_empty() {
        levels.push(Level::default());
    }
    let index = levels.len() - 1;
    &mut levels[index]
}
