//! Where the values of the wanted columns stand in a line of JSON, told in one pass, which also tells whether it is
//! JSON at all: the arrow crate's decoder takes commas that are missing, doubled or too many, numbers such as `08`
//! and `1-2`, and raw control characters in texts.

use std::collections::HashMap;
use std::ops::Range;

use arrow::datatypes::Fields;

use super::json_leaves;

/// Containers that are followed; a line that nests deeper is left to a slower look.
const DEPTH_MAX: u32 = 64;

/// Lines that are not like the one that is kept before another is taken in its place.
const MISSES_MAX: u32 = 8;

/// Objects that are not like the one that is kept before only each so many is compared with it.
const OTHERS_MAX: u32 = 16;

/// Where a value stands in its line. Empty: the line has none.
pub(super) type Span = (usize, usize);

/// Looks at the lines of one file: most are objects with the members of one before, in the same order, some left
/// out, and what stands between their values can be compared as it is. Rows inside of rows are looked at alike, so that
/// what is found are the values of their leaves (`super::json_leaves`).
pub(super) struct Lines {
    root: Shape,
    found: Found,
}

/// What a line holds.
#[derive(Default)]
pub(super) struct Found {
    /// By leaf.
    pub(super) values: Vec<Span>,
    /// By row: whether it is one, and not NULL.
    pub(super) rows: Vec<bool>,
    /// Something else stands where a row should.
    pub(super) has_conflict: bool,
}

/// Objects with the same members.
struct Shape {
    names: HashMap<Vec<u8>, usize>,
    members: Vec<Wanted>,
    /// Its leaves and rows, and those of the rows in it.
    leaves: Range<usize>,
    rows: Range<usize>,
    /// Of one object: what stands before each value, and behind the last. All but the first and the last begin
    /// with a comma, so that any of them may follow a value.
    between: Vec<Between>,
    misses: u32,
    /// Objects since one was like the one that is kept.
    others: u32,
    seen: Vec<Member>,
}

/// A member that is asked for.
enum Wanted {
    Leaf(usize),
    Row(usize, Box<Shape>),
}

struct Between {
    text: Box<[u8]>,
    /// The member whose value follows.
    member: Option<usize>,
}

struct Member {
    /// With its quotes.
    name: Span,
    value: Span,
}

impl Lines {
    pub(super) fn new(columns: &Fields) -> Self {
        let mut found = Found::default();
        Self { root: Shape::new(columns, &mut found), found }
    }

    /// Where the values of the leaves stand in `line`; of a name that an object has twice, the last. None: it is not one
    /// object of JSON and blanks, or one that nests deep.
    pub(super) fn values(&mut self, line: &[u8]) -> Option<&Found> {
        self.found.has_conflict = false;
        let mut walk = Walk::at(line);
        self.root.object(&mut walk, &mut self.found, true)?;
        Some(&self.found)
    }
}

impl Found {
    fn clear(&mut self, leaves: &Range<usize>, rows: &Range<usize>) {
        self.values.get_mut(leaves.clone()).into_iter().for_each(|values| values.fill((0, 0)));
        self.rows.get_mut(rows.clone()).into_iter().for_each(|rows| rows.fill(false));
    }
}

impl Shape {
    /// For an object with these members, whose leaves and rows are numbered behind those of `found`.
    fn new(columns: &Fields, found: &mut Found) -> Self {
        let (leaf, row) = (found.values.len(), found.rows.len());
        let mut members = Vec::new();
        for field in columns {
            members.push(match json_leaves::members(field.data_type()) {
                Some(members) => {
                    found.rows.push(false);
                    Wanted::Row(found.rows.len() - 1, Box::new(Self::new(members, found)))
                }
                None => {
                    found.values.push((0, 0));
                    Wanted::Leaf(found.values.len() - 1)
                }
            });
        }
        let names = columns.iter().enumerate().map(|(member, field)| (field.name().clone().into_bytes(), member));
        Self {
            names: names.collect(),
            members,
            leaves: leaf..found.values.len(),
            rows: row..found.rows.len(),
            between: Vec::new(),
            misses: 0,
            others: 0,
            seen: Vec::new(),
        }
    }

    /// Steps over an object, which begins here, and notes its values. `is_line`: nothing but blanks stands behind it.
    fn object(&mut self, walk: &mut Walk<'_>, found: &mut Found, is_line: bool) -> Option<()> {
        let from = walk.at;
        found.clear(&self.leaves, &self.rows);
        // Where all differ, what is inside of them would be looked at twice, and four times what is inside of that.
        let may_be_like = self.others < OTHERS_MAX || self.others.is_multiple_of(OTHERS_MAX);
        if may_be_like && self.is_like(walk, found) && (!is_line || walk.at == walk.text.len()) {
            self.misses = self.misses.saturating_sub(1);
            self.others = 0;
            return Some(());
        }
        self.others = self.others.wrapping_add(1);
        walk.at = from;
        found.clear(&self.leaves, &self.rows);
        let mut seen = std::mem::take(&mut self.seen);
        seen.clear();
        let noted = self.note(walk, found, &mut seen, is_line);
        self.seen = seen;
        noted
    }

    /// The same of an object that is like no other.
    fn note(&mut self, walk: &mut Walk<'_>, found: &mut Found, seen: &mut Vec<Member>, is_line: bool) -> Option<()> {
        let (text, from) = (walk.text, walk.at);
        walk.object(seen)?;
        if is_line && walk.peek().is_some() {
            return None;
        }
        for member in &*seen {
            if let Some(wanted) = self.member(text, member.name) {
                self.value(wanted, &mut Walk { text, at: member.value.0 }, found)?;
            }
        }
        self.misses += 1;
        if !seen.is_empty() && (self.between.is_empty() || self.misses > MISSES_MAX) {
            self.misses = 0;
            let mut end = from;
            self.between.clear();
            for member in seen {
                let between = text.get(end..member.value.0).unwrap_or_default().into();
                self.between.push(Between { text: between, member: self.member(text, member.name) });
                end = member.value.1;
            }
            let behind = text.get(end..walk.at).unwrap_or_default().into();
            self.between.push(Between { text: behind, member: None });
        }
        Some(())
    }

    fn member(&self, text: &[u8], quoted: Span) -> Option<usize> {
        let name = text.get(quoted.0 + 1..quoted.1 - 1)?;
        if memchr::memchr(b'\\', name).is_none() {
            return self.names.get(name).copied();
        }
        let name = serde_json::from_slice::<String>(text.get(quoted.0..quoted.1)?).ok()?;
        self.names.get(name.as_bytes()).copied()
    }

    /// Steps over the value of a member, and notes it.
    #[inline]
    fn value(&mut self, member: usize, walk: &mut Walk<'_>, found: &mut Found) -> Option<()> {
        let from = walk.at;
        match self.members.get_mut(member)? {
            Wanted::Leaf(leaf) => {
                walk.value()?;
                *found.values.get_mut(*leaf)? = (from, walk.at);
            }
            Wanted::Row(row, shape) => {
                let is_object = walk.text.get(from) == Some(&b'{');
                if is_object {
                    shape.object(walk, found, false)?;
                } else {
                    found.clear(&shape.leaves, &shape.rows);
                    walk.value()?;
                    found.has_conflict |= walk.text.get(from) != Some(&b'n');
                }
                *found.rows.get_mut(*row)? = is_object;
            }
        }
        Some(())
    }

    /// Whether an object has parts of `between`, with a value in each gap. Those of members are noted.
    fn is_like(&mut self, walk: &mut Walk<'_>, found: &mut Found) -> bool {
        let between = std::mem::take(&mut self.between);
        let is_like = self.fills(&between, walk, found);
        self.between = between;
        is_like
    }

    fn fills(&mut self, between: &[Between], walk: &mut Walk<'_>, found: &mut Found) -> bool {
        let [first, rest @ .., last] = between else { return false };
        if !walk.takes(&first.text) {
            return false;
        }
        let (mut rest, mut before) = (rest.iter(), first);
        loop {
            let noted = match before.member {
                Some(member) => self.value(member, walk, found),
                None => walk.value(),
            };
            if noted.is_none() {
                return false;
            }
            match rest.find(|part| walk.takes(&part.text)) {
                Some(part) => before = part,
                None => return walk.takes(&last.text),
            }
        }
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Whether two slices of one length are equal. They are short: a call of `memcmp` costs as much as the rest.
#[inline]
fn is_same(a: &[u8], b: &[u8]) -> bool {
    let word = |bytes: &[u8], at: usize| bytes.get(at..at + 8).and_then(|w| <[u8; 8]>::try_from(w).ok());
    let Some(last) = a.len().checked_sub(8) else { return a.iter().eq(b) };
    let mut at = 0;
    while at < last {
        if word(a, at) != word(b, at) {
            return false;
        }
        at += 8;
    }
    word(a, last) == word(b, last)
}

struct Walk<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    fn at(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// Steps over `part` if it stands here.
    #[inline]
    fn takes(&mut self, part: &[u8]) -> bool {
        let is_here = self.text.get(self.at..self.at + part.len()).is_some_and(|found| is_same(found, part));
        if is_here {
            self.at += part.len();
        }
        is_here
    }

    /// Steps over an object and notes its members.
    fn object(&mut self, members: &mut Vec<Member>) -> Option<()> {
        if self.peek()? != b'{' {
            return None;
        }
        self.at += 1;
        if self.peek()? == b'}' {
            self.at += 1;
        } else {
            loop {
                let name = self.name()?;
                self.peek()?;
                let from = self.at;
                self.value()?;
                members.push(Member { name, value: (from, self.at) });
                let next = self.peek()?;
                self.at += 1;
                match next {
                    b',' => {}
                    b'}' => break,
                    _ => return None,
                }
            }
        }
        Some(())
    }

    /// Steps over one value, which begins here.
    #[inline]
    fn value(&mut self) -> Option<()> {
        match self.text.get(self.at)? {
            b'{' | b'[' => self.container(),
            _ => self.scalar(),
        }
    }

    #[inline]
    fn scalar(&mut self) -> Option<()> {
        match self.text.get(self.at)? {
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => None,
        }
    }

    fn container(&mut self) -> Option<()> {
        let mut depth = 0_u32;
        // A bit for each open container, the innermost lowest: it is an object.
        let mut objects = 0_u64;
        loop {
            let open = self.peek()?;
            if matches!(open, b'{' | b'[') {
                depth += 1;
                // The line itself is one.
                if depth >= DEPTH_MAX {
                    return None;
                }
                self.at += 1;
                objects = objects << 1 | u64::from(open == b'{');
                let next = self.peek()?;
                if next != if open == b'{' { b'}' } else { b']' } {
                    if open == b'{' {
                        self.name()?;
                    }
                    continue;
                }
            } else {
                self.scalar()?;
            }
            // Behind a value, or at the end of an empty container.
            loop {
                let next = self.peek()?;
                self.at += 1;
                match (next, objects & 1 == 1) {
                    (b',', true) => {
                        self.name()?;
                        break;
                    }
                    (b',', false) => break,
                    (b'}', true) | (b']', false) => {
                        depth -= 1;
                        objects >>= 1;
                        if depth == 0 {
                            return Some(());
                        }
                    }
                    _ => return None,
                }
            }
        }
    }

    /// The next byte that is no blank; None at the end.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.text.get(self.at)? {
                byte if is_blank(*byte) => self.at += 1,
                byte => return Some(*byte),
            }
        }
    }

    /// A member's name, and its colon behind it.
    fn name(&mut self) -> Option<Span> {
        if self.peek()? != b'"' {
            return None;
        }
        let from = self.at;
        self.string()?;
        let name = (from, self.at);
        if self.peek()? != b':' {
            return None;
        }
        self.at += 1;
        Some(name)
    }

    #[inline]
    fn word(&mut self, word: &[u8]) -> Option<()> {
        let found = self.text.get(self.at..self.at + word.len())?;
        self.at += word.len();
        (found == word).then_some(())
    }

    #[inline]
    fn string(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            self.at = ordinary(self.text, self.at);
            match self.text.get(self.at)? {
                b'"' => {
                    self.at += 1;
                    return Some(());
                }
                b'\\' => match self.text.get(self.at + 1)? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 2,
                    b'u' => self.escape()?,
                    _ => return None,
                },
                _ => return None,
            }
        }
    }

    /// `\uXXXX`: a character, or two of them the halves of one. A half alone stands for nothing: the arrow crate
    /// refuses it where the value is read, so it is refused where it is not.
    fn escape(&mut self) -> Option<()> {
        let unit = self.code_unit()?;
        match unit {
            0xd800..=0xdbff => matches!(self.code_unit()?, 0xdc00..=0xdfff).then_some(()),
            0xdc00..=0xdfff => None,
            _ => Some(()),
        }
    }

    fn code_unit(&mut self) -> Option<u16> {
        let text = self.text.get(self.at..self.at + 6)?.strip_prefix(b"\\u")?;
        let digits = std::str::from_utf8(text).ok().filter(|_| text.iter().all(u8::is_ascii_hexdigit))?;
        self.at += 6;
        u16::from_str_radix(digits, 16).ok()
    }

    #[inline]
    fn number(&mut self) -> Option<()> {
        if self.text.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        match self.text.get(self.at)? {
            b'0' => self.at += 1,
            b'1'..=b'9' => self.digits()?,
            _ => return None,
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.text.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.text.get(self.at) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    /// One digit at least.
    #[inline]
    fn digits(&mut self) -> Option<()> {
        let from = self.at;
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        (self.at > from).then_some(())
    }
}

/// The first place from `at` on of a quote, a backslash or a control character; eight bytes at a time.
#[inline]
fn ordinary(text: &[u8], mut at: usize) -> usize {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    while let Some(word) = text.get(at..at + 8).and_then(|w| <[u8; 8]>::try_from(w).ok()) {
        let word = u64::from_le_bytes(word);
        // A byte of `x` is zero where `word` holds the character; the lowest marked byte is exact.
        let marks = |x: u64| x.wrapping_sub(LOW) & !x;
        let (quotes, slashes) = (marks(word ^ (LOW * 0x22)), marks(word ^ (LOW * 0x5c)));
        let controls = word.wrapping_sub(LOW * 0x20) & !word;
        let found = (quotes | slashes | controls) & HIGH;
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = text.get(at..).unwrap_or_default();
    at + rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20)).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};
    use proptest::prelude::*;
    use serde::de::IgnoredAny;
    use serde_json::value::RawValue;

    use super::*;

    fn lines(names: &[&str]) -> Lines {
        Lines::new(&names.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect())
    }

    /// As the first line, and behind another.
    fn is_json(text: &[u8]) -> bool {
        let names = ["a", "m1"];
        let alone = lines(&names).values(text).map(|found| found.values.clone());
        let mut lines = lines(&names);
        for before in [&br#"{"m0":1,"m1":"x"}"#[..], text, br#"{"a":1}"#] {
            lines.values(before);
            let found = lines.values(text).map(|found| found.values.clone());
            assert_eq!(found, alone, "{} behind {}", show(text), show(before));
        }
        alone.is_some()
    }

    fn show(text: &[u8]) -> String {
        String::from_utf8_lossy(text).into_owned()
    }

    fn by_serde(text: &[u8]) -> bool {
        serde_json::from_slice::<HashMap<String, IgnoredAny>>(text).is_ok()
    }

    /// The texts of the values that columns `a`, `b` and `c` have.
    fn found(lines: &mut Lines, text: &str) -> Option<Vec<Option<String>>> {
        let values = &lines.values(text.as_bytes())?.values;
        let text = |&(from, to): &Span| (to > from).then(|| text[from..to].to_owned());
        Some(values.iter().map(text).collect())
    }

    fn by_serde_found(text: &str) -> Option<Vec<Option<String>>> {
        let object = serde_json::from_str::<HashMap<String, Box<RawValue>>>(text).ok()?;
        Some(["a", "b", "c"].iter().map(|name| object.get(*name).map(|value| value.get().to_owned())).collect())
    }

    #[test]
    fn what_the_arrow_crate_takes_and_json_is_not() {
        for text in [
            r#"{"id":1 "s":"a"}"#,
            r#"{"id":2,,"s":"a"}"#,
            r#"{,"id":3}"#,
            r#"{"id":4,}"#,
            r#"{"l":[1 2]}"#,
            r#"{"l":[1,,2]}"#,
            r#"{"l":[1,]}"#,
            r#"{"id":08}"#,
            r#"{"id":10.}"#,
            r#"{"zz":1-2}"#,
            "{\"s\":\"a\tb\"}",
            "{} {}",
            "",
            "  ",
        ] {
            assert!(!is_json(text.as_bytes()) && !by_serde(text.as_bytes()), "{text}");
        }
        for text in [
            r#"{}"#,
            r#" { "a" : [ ] , "b" : { } } "#,
            r#"{"a":"\u00e9\n\"é日"}"#,
            r#"{"a":-0.5e+10,"b":[true,false,null,0]}"#,
        ] {
            assert!(is_json(text.as_bytes()) && by_serde(text.as_bytes()), "{text}");
        }
        for (levels, expected) in [(63, true), (64, false)] {
            let text = format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
            assert_eq!(is_json(text.as_bytes()), expected, "{levels}");
        }
    }

    #[test]
    fn values_of_names_that_are_escaped_doubled_or_missing() {
        let mut lines = lines(&["a", "b", "c"]);
        for (text, expected) in [
            (r#"{"\u0061":1,"b":[ 2 , {"a":3} ]}"#, [Some("1"), Some(r#"[ 2 , {"a":3} ]"#), None]),
            (r#"{"\u0061":"\"","b":{}}"#, [Some(r#""\"""#), Some("{}"), None]),
            (r#"{"\u0061":1}"#, [Some("1"), None, None]),
            (r#"{ "c" : 1 , "a":2, "c": 3 , "x":4 }"#, [Some("2"), None, Some("3")]),
            (r#"{}"#, [None, None, None]),
        ] {
            let expected: Vec<_> = expected.iter().map(|value| value.map(str::to_owned)).collect();
            assert_eq!(found(&mut lines, text), Some(expected), "{text}");
        }
        for text in [r#"{"a":"\ud800"}"#, r#"{"a":"\ude00\ud83d"}"#, r#"{"a":"\ud83d\n"}"#] {
            assert!(!is_json(text.as_bytes()), "{text}");
        }
        assert!(is_json(br#"{"a":"\ud83d\ude00"}"#));
    }

    proptest! {
        #[test]
        fn agrees_with_serde(text in r#"[{}\[\],: "\\a0-9eE.+tfu-]{0,24}"#) {
            for text in [text.clone(), format!("{{\"a\":{text}}}")] {
                prop_assert_eq!(is_json(text.as_bytes()), by_serde(text.as_bytes()), "{}", text);
            }
        }

        /// A line behind others of its shape, whole and damaged.
        #[test]
        fn lines_of_one_shape_are_each_looked_at(
            values in proptest::collection::vec(
                prop::sample::select(vec!["1", "-0.5e3", "null", "true", "\"a\"", "\"\\n\"", "\"\"", "08", "1.", "\"\t\"", "[1]", "{}", "[1,{\"a\":[ ]}]", "{\"b\":2", "[1}", "", "x", "1 ", " 2"]),
                2..12,
            ),
        ) {
            let mut lines = lines(&["a", "b", "c"]);
            for pair in values.windows(2) {
                for line in [
                    format!("{{\"a\":{},\"b\" : {}}}", pair[0], pair[1]),
                    format!("{{\"a\":{}}}", pair[0]),
                    format!("{{\"a\":{},\"b\" : {} , \"c\":{}}}", pair[0], pair[1], pair[0]),
                    format!("{{\"a\":{},}}", pair[0]),
                    format!("{{\"a\":{} , \"c\":{}}}", pair[0], pair[1]),
                ] {
                    prop_assert_eq!(found(&mut lines, &line), by_serde_found(&line), "{}", line);
                }
            }
        }

        /// One byte of a good line is lost, doubled or another.
        #[test]
        fn agrees_with_serde_on_damaged_lines(
            value in proptest::collection::vec((any::<Option<i32>>(), any::<f64>(), ".{0,9}", proptest::collection::vec(0..20_u8, 0..4)), 1..4),
            at in any::<proptest::sample::Index>(),
            how in 0..3_u8,
            byte in prop::sample::select(b"{}[],:\" 0-.e\t".to_vec()),
        ) {
            let member = |(n, (a, b, c, d)): (usize, &(Option<i32>, f64, String, Vec<u8>))| {
                (format!("m{n}"), serde_json::json!({"a": a, "b": b, "c": c, "d": d}))
            };
            let line = serde_json::Value::Object(value.iter().enumerate().map(member).collect()).to_string();
            prop_assert!(is_json(line.as_bytes()), "{}", line);
            let mut bytes = line.into_bytes();
            let at = at.index(bytes.len());
            match how {
                0 => drop(bytes.remove(at)),
                1 => bytes.insert(at, bytes[at]),
                _ => bytes[at] = byte,
            }
            // Half a character is another's business.
            prop_assume!(std::str::from_utf8(&bytes).is_ok());
            prop_assert_eq!(is_json(&bytes), by_serde(&bytes), "{}", String::from_utf8_lossy(&bytes));
        }
    }
}
