//! Where the values of the wanted columns stand in a line of JSON, told in one pass, which also tells whether it is
//! JSON at all: the arrow crate's decoder takes commas that are missing, doubled or too many, numbers such as `08`
//! and `1-2`, and raw control characters in texts.

use std::collections::HashMap;

use arrow::datatypes::Fields;

/// Containers that are followed; a line that nests deeper is left to a slower look.
const DEPTH_MAX: u32 = 64;

/// Lines that are not like the one that is kept before another is taken in its place.
const MISSES_MAX: u32 = 8;

/// Where a value stands in its line. Empty: the line has none.
pub(super) type Span = (usize, usize);

/// Looks at the lines of one file: most are objects with the members of one before, in the same order, some left
/// out, and what stands between their values can be compared as it is.
pub(super) struct Lines {
    columns: HashMap<Vec<u8>, usize>,
    /// Of one object: what stands before each value, and behind the last. All but the first and the last begin
    /// with a comma, so that any of them may follow a value.
    between: Vec<Between>,
    misses: u32,
    /// By column, of the last line.
    values: Vec<Span>,
    members: Vec<Member>,
}

struct Between {
    text: Box<[u8]>,
    /// The column whose value follows.
    column: Option<usize>,
}

struct Member {
    /// With its quotes.
    name: Span,
    value: Span,
}

impl Lines {
    pub(super) fn new(columns: &Fields) -> Self {
        let names = columns.iter().enumerate().map(|(column, field)| (field.name().clone().into_bytes(), column));
        Self {
            columns: names.collect(),
            between: Vec::new(),
            misses: 0,
            values: vec![(0, 0); columns.len()],
            members: Vec::new(),
        }
    }

    /// Where the values of the columns stand in `line`; of a name that it has twice, the last. None: it is not one
    /// object of JSON and blanks, or one that nests deep.
    pub(super) fn values(&mut self, line: &[u8]) -> Option<&[Span]> {
        self.values.fill((0, 0));
        if is_like(&self.between, line, &mut self.values) {
            self.misses = self.misses.saturating_sub(1);
            return Some(&self.values);
        }
        self.members.clear();
        Walk::at(line).object(&mut self.members)?;
        self.values.fill((0, 0));
        for member in &self.members {
            if let Some(value) = self.column(line, member.name).and_then(|column| self.values.get_mut(column)) {
                *value = member.value;
            }
        }
        self.misses += 1;
        if !self.members.is_empty() && (self.between.is_empty() || self.misses > MISSES_MAX) {
            self.misses = 0;
            let mut end = 0;
            self.between.clear();
            for member in &self.members {
                let text = line.get(end..member.value.0).unwrap_or_default().into();
                self.between.push(Between { text, column: self.column(line, member.name) });
                end = member.value.1;
            }
            self.between.push(Between { text: line.get(end..).unwrap_or_default().into(), column: None });
        }
        Some(&self.values)
    }

    fn column(&self, line: &[u8], quoted: Span) -> Option<usize> {
        let name = line.get(quoted.0 + 1..quoted.1 - 1)?;
        if memchr::memchr(b'\\', name).is_none() {
            return self.columns.get(name).copied();
        }
        let name = serde_json::from_slice::<String>(line.get(quoted.0..quoted.1)?).ok()?;
        self.columns.get(name.as_bytes()).copied()
    }
}

/// Whether a line has parts of `between`, with a value in each gap. Those of columns are noted.
fn is_like(between: &[Between], line: &[u8], values: &mut [Span]) -> bool {
    let [first, rest @ .., last] = between else { return false };
    let mut walk = Walk::at(line);
    if !walk.takes(&first.text) {
        return false;
    }
    let (mut rest, mut before) = (rest.iter(), first);
    loop {
        let from = walk.at;
        if walk.value().is_none() {
            return false;
        }
        if let Some(value) = before.column.and_then(|column| values.get_mut(column)) {
            *value = (from, walk.at);
        }
        match rest.find(|part| walk.takes(&part.text)) {
            Some(part) => before = part,
            None => return line.get(walk.at..) == Some(&last.text),
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

    /// Steps over an object, which is all there is, and notes its members.
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
        self.peek().is_none().then_some(())
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
        let alone = lines(&names).values(text).map(<[Span]>::to_vec);
        let mut lines = lines(&names);
        for before in [&br#"{"m0":1,"m1":"x"}"#[..], text, br#"{"a":1}"#] {
            lines.values(before);
            let found = lines.values(text).map(<[Span]>::to_vec);
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
        let values = lines.values(text.as_bytes())?;
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
