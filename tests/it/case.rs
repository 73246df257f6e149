//! The format of a case: one SQL file whose comments say what goes in and what must come out.
//!
//! ```text
//! -- What the case shows, and how its answer was worked out.
//! --! input orders.csv            a file of the case's folder; its lines follow (`.gz` is compressed)
//! --| id,price
//! --| 1,2.50
//! --! expect out                  the folder of a file sink; its committed rows follow, in any order
//! --| 1 | 2.5 | NULL | ''         cells are parted by ` | `; '' is the empty text
//! --! changes out                 the same of a log of changes: the rows that are there when all are applied
//! --! late 1                      rows put aside as late over the whole case (a number, or `none`); which they are
//! --| {"v": 8}                    may follow: for each of them some of its columns
//! --! dead-letters 2              records put aside as undecodable
//! --! arrays unordered            elements of arrays may come in any order
//! --! parallelism 2               of the straight run (1 if not given)
//! --! set window.allowed-lateness=1s
//! --! then                        what follows is another script, run when the first has finished
//! --! error E0104 at 12:8         the script is refused: code and place (line and column of this file,
//! --! hint did you mean           or a name), and parts of the hint and of the message
//! --! message no column
//! CREATE TABLE …
//! ```
//!
//! The whole file is the script, comments included, so that places in errors are places in this file. Of
//! a case with several scripts, each sees the lines of the others as empty ones.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::compare::{Row, Rules};

/// One file of `tests/slt`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Case {
    /// `topic/name`.
    pub(crate) name: String,
    pub(crate) scripts: Vec<String>,
    pub(crate) inputs: Vec<(String, Vec<String>)>,
    pub(crate) expected: Vec<(String, Vec<Row>)>,
    /// Which of these are logs of changes.
    pub(crate) changes: BTreeSet<String>,
    pub(crate) late: Option<u64>,
    /// What is said of the late rows; empty if nothing is.
    pub(crate) late_rows: Vec<Value>,
    pub(crate) dead_letters: Option<u64>,
    pub(crate) rules: Rules,
    pub(crate) parallelism: u32,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) error: Option<Refusal>,
}

/// The error that a case must end in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusal {
    pub(crate) code: String,
    /// As it is printed after `at `, or `line:column`.
    pub(crate) place: Option<String>,
    pub(crate) hints: Vec<String>,
    pub(crate) messages: Vec<String>,
}

enum Block {
    None,
    Input,
    Expected,
    Late,
}

impl Case {
    pub(crate) fn read(root: &Path, path: &Path) -> Result<Self, String> {
        let name = path.strip_prefix(root).unwrap_or(path).with_extension("").display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| format!("{name}: {e}"))?;
        Self::parse(&name, &text).map_err(|e| format!("{name}: {e}"))
    }

    fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut case = Self { name: name.to_owned(), parallelism: 1, ..Self::default() };
        let mut block = Block::None;
        let mut script = String::new();
        for (index, line) in text.lines().enumerate() {
            let fail = |what: &str| Err(format!("line {}: {what}", index + 1));
            if let Some(directive) = line.strip_prefix("--! ") {
                block = Block::None;
                let (verb, rest) = directive.split_once(' ').unwrap_or((directive, ""));
                let rest = rest.trim();
                match (verb, rest) {
                    ("input", file) if !file.is_empty() => {
                        case.inputs.push((file.to_owned(), Vec::new()));
                        block = Block::Input;
                    }
                    ("expect" | "changes", table) if !table.is_empty() => {
                        if verb == "changes" {
                            case.changes.insert(table.to_owned());
                        }
                        case.expected.push((table.to_owned(), Vec::new()));
                        block = Block::Expected;
                    }
                    ("late", count) => {
                        case.late = Some(number(count)?);
                        block = Block::Late;
                    }
                    ("dead-letters", count) => case.dead_letters = Some(number(count)?),
                    ("arrays", "unordered") => case.rules.unordered_arrays = true,
                    ("parallelism", count) => case.parallelism = count.parse().map_err(|_| "not a parallelism")?,
                    ("set", pair) => match pair.split_once('=') {
                        Some((key, value)) => case.settings.push((key.to_owned(), value.to_owned())),
                        None => return fail("a setting without `=`"),
                    },
                    ("error", text) => {
                        let (code, place) = match text.split_once(" at ") {
                            Some((code, place)) => (code, Some(place.to_owned())),
                            None => (text, None),
                        };
                        case.error = Some(Refusal { code: code.to_owned(), place, ..Refusal::default() });
                    }
                    ("hint" | "message", text) => match &mut case.error {
                        Some(error) if verb == "hint" => error.hints.push(text.to_owned()),
                        Some(error) => error.messages.push(text.to_owned()),
                        None => return fail("stands before `error`"),
                    },
                    ("then", _) => {
                        let empty = "\n".repeat(index);
                        case.scripts.push(std::mem::replace(&mut script, empty));
                    }
                    _ => return fail(&format!("unknown directive `{directive}`")),
                }
            } else if let Some(row) = line.strip_prefix("--|") {
                let row = row.strip_prefix(' ').unwrap_or(row);
                match block {
                    Block::Input => case.inputs.last_mut().ok_or("no input")?.1.push(row.to_owned()),
                    Block::Expected => case.expected.last_mut().ok_or("no table")?.1.push(cells(row)),
                    Block::Late => case.late_rows.push(serde_json::from_str(row).map_err(|e| e.to_string())?),
                    Block::None => return fail("rows without `input`, `expect` or `late`"),
                }
            } else {
                block = Block::None;
            }
            script.push_str(line);
            script.push('\n');
        }
        case.scripts.push(script);
        if case.error.is_none() && case.expected.is_empty() {
            return Err("expects nothing".to_owned());
        }
        Ok(case)
    }
}

fn number(text: &str) -> Result<u64, String> {
    if text == "none" { Ok(0) } else { text.parse().map_err(|_| format!("`{text}` is no number")) }
}

fn cells(row: &str) -> Row {
    let cell = |cell: &str| match cell.trim() {
        "NULL" => None,
        "''" => Some(String::new()),
        text => Some(text.to_owned()),
    };
    row.split(" | ").map(cell).collect()
}

#[test]
fn cases_are_read() {
    let text =
        "-- x\n--! input a.csv\n--| a,b\n--|\n--! expect out\n--| 1 | NULL | ''\nSELECT 1;\n--! then\nSELECT 2;\n";
    let case = Case::parse("t", text).unwrap();
    assert_eq!(case.inputs, vec![("a.csv".to_owned(), vec!["a,b".to_owned(), String::new()])]);
    assert_eq!(case.expected[0].1, vec![vec![Some("1".to_owned()), None, Some(String::new())]]);
    assert_eq!(case.scripts.len(), 2);
    assert_eq!(case.scripts[1].lines().position(|line| line == "SELECT 2;"), Some(8));
}
