//! Typed reading of the `WITH` options of a table against tables of [`OptionSpec`].
//!
//! [`Options::check`] refuses what is unknown, missing or badly written; after it, the typed getters
//! cannot fail. Connectors call it from `check` (no IO) and again when a table is opened.

use qanat_proto::connector::{OptionKind, OptionSpec, TableDescriptor};
use qanat_proto::error::{Code, Error, Place, Result, by_distance};
use qanat_proto::settings::{parse_duration_ms, parse_size};

/// The options that every table takes. Those of watermarks are read by the planner.
pub const COMMON: &[OptionSpec] = &[
    OptionSpec {
        key: "connector",
        kind: OptionKind::Text,
        default: None,
        required: true,
        doc: "Which connector reads or writes the table.",
    },
    OptionSpec {
        key: "scan.watermark.idle-timeout",
        kind: OptionKind::Duration,
        default: None,
        required: false,
        doc: "A split that gave nothing for so long no longer holds the watermark back.",
    },
    OptionSpec {
        key: "scan.watermark.alignment.max-drift",
        kind: OptionKind::Duration,
        default: None,
        required: false,
        doc: "A split whose watermark is ahead of the slowest by more than this waits for it.",
    },
    OptionSpec {
        key: "scan.watermark.alignment.group",
        kind: OptionKind::Text,
        default: None,
        required: false,
        doc: "Tables of one group wait for each other; needs `scan.watermark.alignment.max-drift`.",
    },
];

/// The checked options of one table.
pub struct Options<'a> {
    table: &'a TableDescriptor,
    specs: Vec<&'a OptionSpec>,
}

impl<'a> Options<'a> {
    /// Checks the options of `table` against `specs` (of the connector, then of its format).
    /// [`COMMON`] is added.
    ///
    /// # Errors
    /// E0202 for an unknown option, with the nearest name; E0203 for a bad value; E0204 for a missing
    /// one.
    pub fn check(table: &'a TableDescriptor, specs: &[&'a [OptionSpec]]) -> Result<Self> {
        let specs: Vec<&OptionSpec> = std::iter::once(COMMON).chain(specs.iter().copied()).flatten().collect();
        let options = Self { table, specs };
        for (key, value) in &table.options {
            let Some(spec) = options.spec(key) else {
                return Err(options.unknown(key));
            };
            if let Some(wanted) = refusal(spec.kind, value) {
                let error = Error::new(Code::BadOption, format!("`{value}` is not {wanted} for option `{key}`"));
                return Err(error.at(Place::Named(table.name.clone())).hint(spec.doc));
            }
        }
        for spec in &options.specs {
            if spec.required && !spec.key.contains('*') && table.option(spec.key).is_none() {
                let error = Error::new(Code::MissingOption, format!("option `{}` is missing", spec.key));
                return Err(error.at(Place::Named(table.name.clone())).hint(spec.doc));
            }
        }
        Ok(options)
    }

    pub fn table(&self) -> &'a TableDescriptor {
        self.table
    }

    /// The value as written, or the default.
    pub fn text(&self, key: &str) -> Option<&'a str> {
        self.table.option(key).or_else(|| self.spec(key).and_then(|spec| spec.default))
    }

    /// Whether the user wrote the option.
    pub fn is_set(&self, key: &str) -> bool {
        self.table.option(key).is_some()
    }

    /// The value of an option that is required for what the caller does.
    ///
    /// # Errors
    /// E0204 if it has neither value nor default.
    pub fn required(&self, key: &str) -> Result<&'a str> {
        self.text(key).ok_or_else(|| {
            let error = Error::new(Code::MissingOption, format!("option `{key}` is missing"));
            let error = error.at(Place::Named(self.table.name.clone()));
            match self.spec(key) {
                Some(spec) => error.hint(spec.doc),
                None => error,
            }
        })
    }

    pub fn boolean(&self, key: &str) -> Option<bool> {
        parse_boolean(self.text(key)?)
    }

    pub fn integer(&self, key: &str) -> Option<i64> {
        self.text(key)?.trim().parse().ok()
    }

    pub fn number(&self, key: &str) -> Option<f64> {
        self.text(key)?.trim().parse().ok()
    }

    /// In bytes.
    pub fn size(&self, key: &str) -> Option<u64> {
        parse_size(self.text(key)?)
    }

    pub fn duration_ms(&self, key: &str) -> Option<u64> {
        parse_duration_ms(self.text(key)?)
    }

    /// One ASCII character.
    pub fn character(&self, key: &str) -> Option<u8> {
        parse_character(self.text(key)?)
    }

    /// An error E0203 about the value of `key`.
    pub fn bad(&self, key: &str, message: impl Into<String>) -> Error {
        let error = Error::new(Code::BadOption, message).at(Place::Named(self.table.name.clone()));
        match self.spec(key) {
            Some(spec) => error.hint(format!("`{key}`: {}", spec.doc)),
            None => error,
        }
    }

    fn spec(&self, key: &str) -> Option<&'a OptionSpec> {
        self.specs.iter().copied().find(|spec| matches_key(spec.key, key))
    }

    fn unknown(&self, key: &str) -> Error {
        let connector = &self.table.connector;
        let error = Error::new(Code::UnknownOption, format!("unknown option `{key}` for connector `{connector}`"))
            .at(Place::Named(self.table.name.clone()));
        let (names, meant) = by_distance(key, self.specs.iter().map(|spec| spec.key));
        let quoted = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>();
        let (meant, others) = names.split_at(meant.min(PROPOSED_MAX).min(names.len()));
        let (listed, more) = others.split_at(others.len().min(LISTED_MAX));
        let mut listed = quoted(listed).join(", ");
        if !more.is_empty() {
            listed.push_str(&format!(" and {} more", more.len()));
        }
        error.hint(match (meant.is_empty(), others.is_empty()) {
            (true, _) => format!("options are {listed}"),
            (false, true) => format!("did you mean {}?", quoted(meant).join(" or ")),
            (false, false) => format!("did you mean {}? Others are {listed}", quoted(meant).join(" or ")),
        })
    }
}

/// Options that a hint proposes, and others that it lists.
const PROPOSED_MAX: usize = 3;
const LISTED_MAX: usize = 8;

/// Whether `key` is named by `pattern`, in which one `*` stands for any text that is not empty.
fn matches_key(pattern: &str, key: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == key,
        Some((head, tail)) => key.len() > head.len() + tail.len() && key.starts_with(head) && key.ends_with(tail),
    }
}

/// What `value` should have been, if it is not of this kind.
fn refusal(kind: OptionKind, value: &str) -> Option<String> {
    let (is_good, wanted) = match kind {
        OptionKind::Text => (true, String::new()),
        OptionKind::Integer { min, max } => {
            let good = value.trim().parse::<i64>().is_ok_and(|n| (min..=max).contains(&n));
            (good, format!("a whole number from {min} to {max}"))
        }
        OptionKind::Number => (value.trim().parse::<f64>().is_ok_and(f64::is_finite), "a number".to_owned()),
        OptionKind::Boolean => (parse_boolean(value).is_some(), "`true` or `false`".to_owned()),
        OptionKind::Size => (parse_size(value).is_some(), "a size such as `128MB`".to_owned()),
        OptionKind::Duration => {
            (parse_duration_ms(value).is_some(), "a duration such as `500 ms`, `10 s` or `1 h`".to_owned())
        }
        OptionKind::Character => (parse_character(value).is_some(), "one ASCII character".to_owned()),
        OptionKind::Choice(choices) => {
            let good = choices.iter().any(|choice| choice.eq_ignore_ascii_case(value));
            (good, format!("one of {}", choices.join(", ")))
        }
    };
    (!is_good).then_some(wanted)
}

fn parse_boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// One ASCII character as itself or as an escape: `\t`, `\n`, `\\`, `\u0001`, `\x01`.
fn parse_character(text: &str) -> Option<u8> {
    let byte = match text {
        "\\t" => b'\t',
        "\\n" => b'\n',
        "\\r" => b'\r',
        "\\0" => 0,
        "\\\\" => b'\\',
        _ => match text.strip_prefix("\\u").or_else(|| text.strip_prefix("\\x")) {
            Some(digits) => u8::try_from(u32::from_str_radix(digits, 16).ok()?).ok()?,
            None => match text.as_bytes() {
                [byte] => *byte,
                _ => return None,
            },
        },
    };
    byte.is_ascii().then_some(byte)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::Schema;

    use super::*;

    const SPECS: &[OptionSpec] = &[
        OptionSpec { key: "path", kind: OptionKind::Text, default: None, required: true, doc: "Where." },
        OptionSpec {
            key: "csv.field-delimiter",
            kind: OptionKind::Character,
            default: Some(","),
            required: false,
            doc: "Between fields.",
        },
        OptionSpec {
            key: "fields.*.kind",
            kind: OptionKind::Choice(&["random", "sequence"]),
            default: Some("random"),
            required: false,
            doc: "How.",
        },
    ];

    fn table(pairs: &[(&str, &str)]) -> TableDescriptor {
        TableDescriptor {
            name: "t".to_owned(),
            connector: "filesystem".to_owned(),
            options: pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            physical: Arc::new(Schema::empty()),
            metadata: Vec::new(),
            primary_key: Vec::new(),
            partitioned_by: Vec::new(),
        }
    }

    fn refused(pairs: &[(&str, &str)]) -> Error {
        Options::check(&table(pairs), &[SPECS]).err().expect("refused")
    }

    #[test]
    fn defaults_escapes_and_patterns() {
        let table = table(&[("connector", "filesystem"), ("path", "x"), ("fields.a.b.kind", "Sequence")]);
        let options = Options::check(&table, &[SPECS]).expect("good options");
        assert_eq!(options.character("csv.field-delimiter"), Some(b','));
        assert_eq!(options.text("fields.a.b.kind"), Some("Sequence"));
        assert_eq!(options.text("fields.other.kind"), Some("random"));
        assert_eq!(parse_character("\\t"), Some(b'\t'));
        assert_eq!(parse_character("\\u0001"), Some(1));
        assert_eq!(parse_character("é"), None);
    }

    #[test]
    fn a_hint_is_short_however_many_options_there_are() {
        let many: Vec<OptionSpec> = (0..40).map(|n| OptionSpec { key: KEYS[n % KEYS.len()], ..SPECS[0] }).collect();
        const KEYS: [&str; 4] = ["csv.null-literal", "json.null-literal", "compression", "sink.rolling-interval"];
        let table = table(&[("connector", "f"), ("zzzzzzzzzzzz", "x")]);
        let hint = |table: &TableDescriptor| {
            let error = Options::check(table, &[&many[..]]).err().expect("refused");
            error.hint_text().unwrap_or_default().to_owned()
        };
        let unlike = hint(&table);
        assert!(unlike.starts_with("options are `") && unlike.ends_with(" and 36 more"), "{unlike}");
        assert_eq!(unlike.matches('`').count(), 2 * LISTED_MAX, "{unlike}");
        let part = hint(&self::table(&[("connector", "f"), ("null-literal", "x")]));
        assert!(part.starts_with("did you mean `csv.null-literal` or `"), "{part}");
    }

    #[test]
    fn refusals_name_the_option_and_the_nearest() {
        let error = refused(&[("connector", "f"), ("path", "x"), ("csv.field-delimeter", ";")]);
        assert_eq!(error.code(), Code::UnknownOption);
        let hint = error.hint_text().unwrap_or_default();
        assert!(hint.starts_with("did you mean `csv.field-delimiter`? Others are `"), "{hint}");
        assert_eq!(refused(&[("connector", "f")]).code(), Code::MissingOption);
        assert_eq!(refused(&[("connector", "f"), ("path", "x"), ("fields.a.kind", "z")]).code(), Code::BadOption);
    }
}
