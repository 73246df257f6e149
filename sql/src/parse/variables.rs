//! Filling `${NAME}`, and finding the way back: places always refer to the text the user wrote.

use std::collections::BTreeMap;

use datafusion_sql::sqlparser::tokenizer::{Location, TokenWithSpan};
use qanat_proto::error::nearest;
use qanat_proto::{Code, Error, Place, Result};

/// A script with its variables filled, and where the fillings are.
pub(super) struct Filled {
    pub(super) text: String,
    fillings: Vec<Filling>,
}

/// One replaced `${NAME}`, in positions of characters.
struct Filling {
    /// Where the value starts and ends in the filled text, and `${NAME}` in the original.
    filled: (Location, Location),
    original: (Location, Location),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Text,
    Literal,
    Name(char),
    LineComment,
    BlockComment,
}

/// Replaces each `${NAME}` outside comments; a hint, `/*+ … */`, is none. Within a `'literal'`, quotes of the value are
/// doubled, so that a value cannot end the literal it stands in.
pub(super) fn fill(text: &str, variables: &BTreeMap<String, String>) -> Result<Filled> {
    if !text.contains("${") {
        return Ok(Filled { text: text.to_owned(), fillings: Vec::new() });
    }
    let mut out = String::with_capacity(text.len());
    let mut fillings = Vec::new();
    let mut inside = Inside::Text;
    let mut is_hint = false;
    let (mut original, mut filled) = (start(), start());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if rest.starts_with("${") && !matches!(inside, Inside::LineComment | Inside::BlockComment) {
            let name = variable_name(rest).ok_or_else(|| {
                Error::new(Code::SqlSyntax, "`${` begins a variable, but no name and `}` follow")
                    .at(place(original))
                    .hint("write `${NAME}` with letters, digits, `_`, `.` or `-`")
            })?;
            let value = variables.get(name).ok_or_else(|| unset(name, variables).at(place(original)))?;
            if is_hint && value.contains("*/") {
                let error = Error::new(
                    Code::SqlSyntax,
                    format!("the value of `${{{name}}}` would end the hint that it stands in"),
                );
                return Err(error.at(place(original)));
            }
            let value = if inside == Inside::Literal { value.replace('\'', "''") } else { value.clone() };
            let from = (filled, original);
            out.push_str(&value);
            filled = value.chars().fold(filled, advance);
            let width = name.len() + 3;
            original = rest.chars().take(width).fold(original, advance);
            fillings.push(Filling { filled: (from.0, filled), original: (from.1, original) });
            rest = rest.get(width..).unwrap_or_default();
            continue;
        }
        let next = rest.get(c.len_utf8()..).unwrap_or_default();
        inside = match inside {
            Inside::Text if c == '\'' => Inside::Literal,
            Inside::Text if c == '"' || c == '`' => Inside::Name(c),
            Inside::Text if c == '-' && next.starts_with('-') => Inside::LineComment,
            Inside::Text if c == '/' && next.starts_with("*+") => {
                is_hint = true;
                Inside::Text
            }
            Inside::Text if c == '/' && next.starts_with('*') => Inside::BlockComment,
            Inside::Text if is_hint && c == '*' && next.starts_with('/') => {
                is_hint = false;
                Inside::Text
            }
            Inside::Literal if c == '\'' => Inside::Text,
            Inside::Name(quote) if c == quote => Inside::Text,
            Inside::LineComment if c == '\n' => Inside::Text,
            // The slash itself is text again; nothing else begins with it.
            Inside::BlockComment if c == '*' && next.starts_with('/') => Inside::Text,
            other => other,
        };
        out.push(c);
        original = advance(original, c);
        filled = advance(filled, c);
        rest = next;
    }
    Ok(Filled { text: out, fillings })
}

impl Filled {
    /// Moves the spans of tokens to where they stand in the original text.
    pub(super) fn restore_places(&self, tokens: &mut [TokenWithSpan]) {
        if self.fillings.is_empty() {
            return;
        }
        for token in tokens {
            token.span.start = self.original(token.span.start);
            token.span.end = self.original(token.span.end);
        }
    }

    /// The original position of a position in the filled text.
    pub(super) fn original(&self, at: Location) -> Location {
        let index = self.fillings.partition_point(|filling| filling.filled.0 <= at);
        let Some(filling) = index.checked_sub(1).and_then(|i| self.fillings.get(i)) else { return at };
        let (value_end, name_end) = (filling.filled.1, filling.original.1);
        if at < value_end {
            return filling.original.0;
        }
        if at.line > value_end.line {
            return Location { line: at.line - value_end.line + name_end.line, column: at.column };
        }
        Location { line: name_end.line, column: at.column - value_end.column + name_end.column }
    }
}

fn variable_name(rest: &str) -> Option<&str> {
    let name = rest.strip_prefix("${")?.split_once('}')?.0;
    let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    (!name.is_empty() && name.bytes().all(ok)).then_some(name)
}

fn unset(name: &str, variables: &BTreeMap<String, String>) -> Error {
    let error = Error::new(Code::UnsetVariable, format!("`${{{name}}}` has no value"));
    match nearest(name, variables.keys().map(String::as_str)) {
        Some(other) => error.hint(format!("did you mean `${{{other}}}`? Values are given with `--set {name}=value`")),
        None => error.hint(format!("give it with `--set {name}=value`")),
    }
}

fn start() -> Location {
    Location { line: 1, column: 1 }
}

fn place(location: Location) -> Place {
    Place::Sql { line: location.line, column: location.column }
}

/// The position after `c`, counted as the tokenizer counts: columns in characters.
fn advance(at: Location, c: char) -> Location {
    if c == '\n' {
        Location { line: at.line + 1, column: 1 }
    } else {
        Location { line: at.line, column: at.column + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> BTreeMap<String, String> {
        [("DIR", "it's/here"), ("LINES", "a\nb"), ("N", "5")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    }

    #[test]
    fn fills_and_escapes() {
        let filled = fill("SELECT '${DIR}', ${N} -- ${NOT_READ}\n/* ${NOR} */ + ${N}", &variables()).expect("fills");
        assert_eq!(filled.text, "SELECT 'it''s/here', 5 -- ${NOT_READ}\n/* ${NOR} */ + 5");
    }

    #[test]
    fn a_hint_is_no_comment() {
        let filled = fill("SELECT /*+ STATE_TTL('t' = '${DIR}') */ ${N} /* ${NOR} */", &variables()).expect("fills");
        assert_eq!(filled.text, "SELECT /*+ STATE_TTL('t' = 'it''s/here') */ 5 /* ${NOR} */");
        let ends = [("X".to_owned(), "1 d') */ secret".to_owned())].into();
        let error = fill("SELECT /*+ STATE_TTL('t' = '${X}') */ 1", &ends).err().expect("would end the hint");
        assert_eq!((error.code(), error.place()), (Code::SqlSyntax, Some(&Place::Sql { line: 1, column: 29 })));
    }

    #[test]
    fn places_lead_back() {
        let filled = fill("x ${LINES} y\n${N} z", &variables()).expect("fills");
        assert_eq!(filled.text, "x a\nb y\n5 z");
        let back = |line, column| {
            let at = filled.original(Location { line, column });
            (at.line, at.column)
        };
        assert_eq!(back(1, 1), (1, 1));
        assert_eq!(back(1, 3), (1, 3));
        assert_eq!(back(2, 1), (1, 3), "within the value");
        assert_eq!(back(2, 3), (1, 12), "y");
        assert_eq!(back(3, 3), (2, 6), "z");
    }

    #[test]
    fn an_unset_variable_is_named() {
        let error = fill("SELECT\n  ${DIRR}", &variables()).err().expect("unset");
        assert_eq!(error.code(), Code::UnsetVariable);
        assert_eq!(error.place(), Some(&Place::Sql { line: 2, column: 3 }));
        assert!(error.hint_text().is_some_and(|hint| hint.contains("`${DIR}`")));
    }
}
