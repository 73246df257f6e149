//! Damage: what becomes of bytes and texts on their way here.

use qanat_storage::env::sim::Random;

use crate::words::{STRANGE, tokens};

/// A damaged input has at most so many bytes: repeated doubling must not make the rounds slow.
pub const INPUT_BYTES_MAX: usize = 64 << 10;

/// How the inputs of a target are best damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Bytes with lengths and counts in them.
    Bytes,
    /// Texts with numbers and quoted strings in them, such as JSON.
    Text,
    /// SQL: whole tokens are exchanged.
    Sql,
}

/// What stands in for a field of four or eight bytes.
const WIDE: &[u64] = &[
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 32,
    1 << 40,
    1 << 62,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// What stands in for a number in a text.
const NUMBERS: &[&str] = &[
    "0",
    "-1",
    "1",
    "255",
    "65536",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "340282366920938463463374607431768211455",
    "1e400",
    "0.5",
    "null",
    "\"\"",
    "[]",
    "{}",
    "true",
];

/// Bytes that formats give a meaning to.
const SIGNS: &[u8] = b"\x00\x01\x7f\x80\xff\n\r\t\",{}[]:;-+.eE0\\u#' ";

/// `input`, damaged in one to four places; `other` is what pieces come from.
pub fn mutated(random: &Random, form: Form, input: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = match form {
        Form::Sql => {
            let (input, other) = (String::from_utf8_lossy(input), String::from_utf8_lossy(other));
            sql(random, &input, &other).into_bytes()
        }
        Form::Bytes | Form::Text => {
            let mut bytes = input.to_vec();
            for _ in 0..=random.index(4) {
                if form == Form::Text && random.index(2) == 0 {
                    text(random, &mut bytes);
                } else {
                    damage(random, &mut bytes, other);
                }
            }
            bytes
        }
    };
    bytes.truncate(INPUT_BYTES_MAX);
    bytes
}

/// Damage that knows nothing of the format.
fn damage(random: &Random, bytes: &mut Vec<u8>, other: &[u8]) {
    let (at, to) = (random.index(bytes.len()), random.index(bytes.len() + 1));
    let end = (at + 1 + random.index(24)).min(bytes.len());
    match random.index(12) {
        0..=2 if !bytes.is_empty() => bytes[at] ^= 1 << random.index(8),
        3 if !bytes.is_empty() => bytes[at] = random.pick(SIGNS),
        4 => bytes.truncate(at),
        5 if !bytes.is_empty() => drop(bytes.drain(at..end)),
        6 if !bytes.is_empty() => {
            let piece = bytes[at..end].to_vec();
            drop(bytes.splice(to..to, piece));
        }
        7 if !other.is_empty() => {
            let from = random.index(other.len());
            let piece = &other[from..(from + 1 + random.index(64)).min(other.len())];
            drop(bytes.splice(to..to, piece.iter().copied()));
        }
        8 | 9 => wide(random, bytes),
        10 => {
            let length = 1 + random.index(12);
            let piece = random.bytes(length);
            drop(bytes.splice(to..to, piece));
        }
        _ => bytes.insert(to, random.pick(SIGNS)),
    }
}

/// Another number in a field: of two, four or eight bytes, at its natural place or anywhere, little-endian or big; or a
/// small change of what stands there.
fn wide(random: &Random, bytes: &mut [u8]) {
    let width = random.pick(&[2, 4, 4, 8, 8]);
    let Some(room) = bytes.len().checked_sub(width) else { return };
    let mut at = random.index(room + 1);
    if random.index(2) == 0 {
        at -= at % width;
    }
    let field = &mut bytes[at..at + width];
    match random.index(4) {
        0 => field[0] = field[0].wrapping_add(1),
        1 => field[0] = field[0].wrapping_sub(1),
        2 => field.copy_from_slice(&random.pick(WIDE).to_be_bytes()[8 - width..]),
        _ => field.copy_from_slice(&random.pick(WIDE).to_le_bytes()[..width]),
    }
}

/// Another number, or a string less or twice.
fn text(random: &Random, bytes: &mut Vec<u8>) {
    let start = random.index(bytes.len());
    let found = |is: fn(&u8) -> bool| bytes.iter().skip(start).position(is).map(|at| start + at);
    if random.index(3) > 0 {
        let Some(at) = found(u8::is_ascii_digit) else { return };
        let end = bytes.iter().skip(at).position(|byte| !byte.is_ascii_digit()).map_or(bytes.len(), |end| at + end);
        drop(bytes.splice(at..end, random.pick(NUMBERS).bytes()));
        return;
    }
    let Some(at) = found(|byte| *byte == b'"') else { return };
    let Some(end) = bytes.iter().skip(at + 1).position(|byte| *byte == b'"').map(|end| at + end + 2) else { return };
    let piece = bytes[at..end].to_vec();
    match random.index(4) {
        0 => drop(bytes.drain(at..end)),
        1 => drop(bytes.splice(at..at, piece)),
        2 => drop(bytes.splice(at..end, random.pick(NUMBERS).bytes())),
        _ => drop(bytes.splice(at + 1..end - 1, *b"\\u0000\xc3\xa9")),
    }
}

fn sql(random: &Random, script: &str, other: &str) -> String {
    let (mut tokens, other) = (tokens(script), tokens(other));
    // A planner refuses most of what is changed at all: one place is mostly enough.
    for _ in 0..=random.index(4).saturating_sub(2) {
        let (at, to) = (random.index(tokens.len()), random.index(tokens.len()));
        let end = (at + 1 + random.index(12)).min(tokens.len());
        match random.index(9) {
            0 if !tokens.is_empty() => drop(tokens.remove(at)),
            1 if !tokens.is_empty() => drop(tokens.drain(at..end)),
            2 if !tokens.is_empty() => tokens.insert(at, tokens[at]),
            3 if !tokens.is_empty() => tokens.swap(at, to),
            4 if !tokens.is_empty() => tokens[at] = tokens[to],
            5 if !tokens.is_empty() => tokens[at] = random.pick(STRANGE),
            6 => tokens.insert(at, random.pick(STRANGE)),
            7 if !tokens.is_empty() && !other.is_empty() => tokens[at] = random.pick(&other),
            _ => {
                let from = random.index(other.len());
                let piece = &other[from..(from + 1 + random.index(12)).min(other.len())];
                drop(tokens.splice(at..at, piece.iter().copied()));
            }
        }
    }
    let mut text = String::new();
    for token in tokens {
        text.push_str(token);
        // Words that came to stand beside each other stay two.
        if token.ends_with(|c: char| !c.is_whitespace()) && random.index(2) == 0 {
            text.push(' ');
        }
    }
    if random.index(10) == 0 {
        let at = (0..=random.index(text.len() + 1)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.insert(at, char::from_u32(random.index(0x3000) as u32).unwrap_or('x'));
    }
    text
}
