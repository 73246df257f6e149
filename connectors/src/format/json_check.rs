//! Whether a line is JSON, told in one pass: the arrow crate's decoder takes commas that are missing, doubled or
//! too many, numbers such as `08` and `1-2`, and raw control characters in texts.

/// Containers that are followed; a line that nests deeper is left to a slower look.
const DEPTH_MAX: u32 = 64;

/// Lines that are not like the one that is kept before another is taken in its place.
const MISSES_MAX: u32 = 8;

/// Looks at the lines of one file: most are objects with the members of one before, in the same order, some left
/// out, and what stands between their values can be compared as it is.
#[derive(Default)]
pub(super) struct Checker {
    /// Of an object without containers in it: what stands before each value, and behind the last. All but the
    /// first and the last begin with a comma, so that any of them may follow a value.
    between: Vec<Box<[u8]>>,
    misses: u32,
}

impl Checker {
    /// Whether `text` is one JSON value and blanks. False for some that are: those that nest deep.
    pub(super) fn is_json(&mut self, text: &[u8]) -> bool {
        if is_like(&self.between, text) {
            self.misses = self.misses.saturating_sub(1);
            return true;
        }
        self.misses += 1;
        let mut found = (self.between.is_empty() || self.misses > MISSES_MAX).then(Vec::new);
        let is_json = Walk::at(text).of(found.as_mut()).is_some();
        if let Some(found) = found.filter(|found| is_json && !found.is_empty()) {
            self.between = found;
            self.misses = 0;
        }
        is_json
    }
}

/// Whether a line has parts of `between`, with a text, number or word in each gap.
fn is_like(between: &[Box<[u8]>], text: &[u8]) -> bool {
    let [first, rest @ .., last] = between else { return false };
    let mut walk = Walk::at(text);
    if !walk.takes(first) {
        return false;
    }
    let mut rest = rest.iter();
    loop {
        let is_value = match text.get(walk.at) {
            Some(b'-' | b'0'..=b'9') => walk.number(),
            Some(b'"') => walk.string(),
            Some(b'n') => walk.word(b"null"),
            Some(b't') => walk.word(b"true"),
            Some(b'f') => walk.word(b"false"),
            _ => None,
        };
        if is_value.is_none() {
            return false;
        }
        if !rest.any(|part| walk.takes(part)) {
            return text.get(walk.at..) == Some(last);
        }
    }
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
    depth: u32,
    /// A bit for each open container, the innermost lowest: it is an object.
    objects: u64,
    /// Where the last value outside of inner containers ended.
    between: usize,
}

impl<'a> Walk<'a> {
    fn at(text: &'a [u8]) -> Self {
        Self { text, at: 0, depth: 0, objects: 0, between: 0 }
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

    /// Notes what stands between the values of an object without containers in it. None: it is no JSON.
    fn of(mut self, mut between: Option<&mut Vec<Box<[u8]>>>) -> Option<()> {
        let mut is_flat = between.is_some();
        loop {
            let byte = self.peek()?;
            if let Some(between) = between.as_mut().filter(|_| self.depth == 1 && is_flat) {
                between.push(self.text.get(self.between..self.at)?.into());
                is_flat = !matches!(byte, b'{' | b'[') && self.objects & 1 == 1;
            }
            match byte {
                b'{' => {
                    self.open(1)?;
                    if self.peek()? != b'}' {
                        self.name()?;
                        continue;
                    }
                }
                b'[' => {
                    self.open(0)?;
                    if self.peek()? != b']' {
                        continue;
                    }
                }
                b'"' => self.string()?,
                b'-' | b'0'..=b'9' => self.number()?,
                b't' => self.word(b"true")?,
                b'f' => self.word(b"false")?,
                b'n' => self.word(b"null")?,
                _ => return None,
            }
            self.between = self.at;
            // Behind a value, or at the end of an empty container.
            loop {
                if self.depth == 0 {
                    if self.peek().is_some() {
                        return None;
                    }
                    if let Some(between) = between {
                        between.push(self.text.get(self.between..)?.into());
                        if !is_flat || between.len() < 2 {
                            between.clear();
                        }
                    }
                    return Some(());
                }
                let in_object = self.objects & 1 == 1;
                match (self.peek()?, in_object) {
                    (b',', true) => {
                        self.at += 1;
                        self.name()?;
                        break;
                    }
                    (b',', false) => {
                        self.at += 1;
                        break;
                    }
                    (b'}', true) | (b']', false) => {
                        self.at += 1;
                        self.depth -= 1;
                        self.objects >>= 1;
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
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                byte => return Some(*byte),
            }
        }
    }

    fn open(&mut self, is_object: u64) -> Option<()> {
        self.at += 1;
        self.depth += 1;
        self.objects = self.objects << 1 | is_object;
        (self.depth <= DEPTH_MAX).then_some(())
    }

    /// A member's name and its colon.
    fn name(&mut self) -> Option<()> {
        if self.peek()? != b'"' {
            return None;
        }
        self.string()?;
        if self.peek()? != b':' {
            return None;
        }
        self.at += 1;
        Some(())
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
                    b'u' => {
                        let digits = self.text.get(self.at + 2..self.at + 6)?;
                        if !digits.iter().all(u8::is_ascii_hexdigit) {
                            return None;
                        }
                        self.at += 6;
                    }
                    _ => return None,
                },
                _ => return None,
            }
        }
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
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    /// As the first line, and behind another.
    fn is_json(text: &[u8]) -> bool {
        let alone = Checker::default().is_json(text);
        let mut checker = Checker::default();
        for before in [&br#"{"m0":1,"m1":"x"}"#[..], text, br#"{"a":1}"#] {
            checker.is_json(before);
            assert_eq!(checker.is_json(text), alone, "{} behind {}", show(text), show(before));
        }
        alone
    }

    fn show(text: &[u8]) -> String {
        String::from_utf8_lossy(text).into_owned()
    }

    fn by_serde(text: &[u8]) -> bool {
        serde_json::from_slice::<IgnoredAny>(text).is_ok()
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
        assert!(!is_json("[".repeat(65).as_bytes()));
    }

    proptest! {
        #[test]
        fn agrees_with_serde(text in r#"[{}\[\],: "\\a0-9eE.+tfu-]{0,24}"#) {
            prop_assert_eq!(is_json(text.as_bytes()), by_serde(text.as_bytes()), "{}", text);
        }

        /// A flat line behind others of its shape, whole and damaged.
        #[test]
        fn lines_of_one_shape_are_each_looked_at(
            values in proptest::collection::vec(
                prop::sample::select(vec!["1", "-0.5e3", "null", "true", "\"a\"", "\"\\n\"", "\"\"", "08", "1.", "\"\t\"", "[1]", "{}", "", "x", "1 ", " 2"]),
                2..12,
            ),
        ) {
            let mut checker = Checker::default();
            for pair in values.windows(2) {
                for line in [
                    format!("{{\"a\":{},\"b\" : {}}}", pair[0], pair[1]),
                    format!("{{\"a\":{}}}", pair[0]),
                    format!("{{\"a\":{},\"b\" : {} , \"c\":{}}}", pair[0], pair[1], pair[0]),
                    format!("{{\"a\":{},}}", pair[0]),
                    format!("{{\"a\":{} , \"c\":{}}}", pair[0], pair[1]),
                ] {
                    prop_assert_eq!(checker.is_json(line.as_bytes()), by_serde(line.as_bytes()), "{}", line);
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
