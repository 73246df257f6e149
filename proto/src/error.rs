//! The one error that leaves a component: a code, a message, a place and a hint.
//!
//! Every code has a page `docs/errors/<code>.md`; a test holds the two together. Messages are lower
//! case, without a full stop, and name the thing that is wrong.

use std::fmt;

use serde::{Deserialize, Serialize};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who can mend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Domain {
    /// The text, option or data given by the user.
    User,
    /// The world outside: a disk, a file, a network.
    External,
    /// A bug in Qanat.
    Internal,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $domain:ident;)*) => {
        /// What went wrong, for people and for programs. Codes are never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Code {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
        }
        impl Code {
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            pub fn domain(self) -> Domain {
                match self { $(Code::$name => Domain::$domain,)* }
            }
        }
    };
}

codes! {
    // E01xx: the SQL text and its plan.
    /// The text is not SQL of this dialect.
    SqlSyntax = "E0101", User;
    /// Valid in the dialect, but not supported yet.
    SqlUnsupported = "E0102", User;
    /// No table or view of this name.
    UnknownTable = "E0103", User;
    /// No column of this name.
    UnknownColumn = "E0104", User;
    /// No function of this name, or not with these arguments.
    UnknownFunction = "E0105", User;
    /// Types do not fit.
    TypeMismatch = "E0106", User;
    /// A limit of `limits.rs` was passed (length, depth, columns, joins, operators).
    SqlLimit = "E0107", User;
    /// A statement contradicts an earlier one (a name taken twice, a column twice).
    SqlDuplicate = "E0108", User;
    /// A window, watermark or time attribute is missing or misused.
    TimeAttribute = "E0109", User;
    /// An unbounded operation that would need unlimited state, refused at planning.
    UnboundedState = "E0110", User;
    /// The script holds nothing to run.
    NothingToRun = "E0111", User;
    /// `SET` or `--set` with an unknown key or bad value.
    BadSetting = "E0112", User;
    /// `${NAME}` has no value.
    UnsetVariable = "E0113", User;
    /// The columns of a query do not fit the table it is inserted into.
    SinkSchema = "E0114", User;
    ChangelogRefused = "E0115", User;

    // E02xx: connectors, formats and their data.
    /// No connector of this name.
    UnknownConnector = "E0201", User;
    /// No such option for this connector or format.
    UnknownOption = "E0202", User;
    /// An option has a value it cannot take.
    BadOption = "E0203", User;
    /// A required option is missing.
    MissingOption = "E0204", User;
    /// The connector cannot be used this way (as source, sink, lookup, with this format).
    BadRole = "E0205", User;
    /// A file or folder does not exist, or matches nothing.
    PathNotFound = "E0206", User;
    /// A file or folder may not be read or written.
    PermissionDenied = "E0207", External;
    /// A compressed file ends early or is damaged.
    CorruptInput = "E0208", User;
    /// The header of a file lacks a declared column.
    HeaderMismatch = "E0209", User;
    /// A record cannot be decoded and the table's policy is `fail`.
    BadRecord = "E0210", User;
    /// A record is larger than the limit.
    RecordTooLarge = "E0211", User;
    /// A file shrank or changed under a reader that must go on from an offset.
    SourceChanged = "E0212", External;
    /// An offset a checkpoint needs is gone (retention).
    OffsetGone = "E0213", External;
    /// A read or write failed in the operating system.
    Io = "E0214", External;
    /// The disk is full.
    DiskFull = "E0215", External;
    /// A final name already holds other rows.
    SinkConflict = "E0216", External;
    /// A cell or row cannot be written in the sink's format.
    Encode = "E0217", User;

    // E03xx: durable state.
    /// A checkpoint object is missing or its checksum is wrong.
    CorruptCheckpoint = "E0301", External;
    /// The state folder belongs to another job or another script.
    ForeignState = "E0302", User;
    /// Another process owns the data folder.
    DataFolderLocked = "E0303", User;
    /// A log segment is damaged in its middle.
    CorruptLog = "E0304", External;
    /// An fsync failed: what is on disk is unknown, and whoever wrote it stops or reads it back.
    FsyncFailed = "E0305", External;
    /// An effect with an older token was refused.
    Fenced = "E0306", Internal;
    /// Written by a newer or unknown version.
    UnknownVersion = "E0307", User;
    /// No topic of this name.
    UnknownTopic = "E0308", User;
    /// No job of this name in the data folder.
    UnknownJob = "E0309", User;
    /// A job has no such savepoint, or the epoch cannot be restored.
    NotRestorable = "E0310", User;
    /// A job has no operator of this name.
    UnknownOperator = "E0311", User;
    /// A topic is used by a running job, or is just being changed.
    TopicInUse = "E0312", User;

    // E04xx: running jobs.
    /// The job's memory budget cannot hold its state.
    MemoryLimit = "E0401", User;
    /// The same error at the same place three times.
    RepeatedFailure = "E0402", User;
    /// An epoch did not complete within its timeout.
    EpochTimeout = "E0403", External;
    /// An expression failed on a row (overflow, division by zero, bad cast) under policy `fail`.
    Evaluation = "E0404", User;
    /// Sent and received do not balance: the epoch is not claimed.
    Imbalance = "E0405", Internal;
    /// `audit` found a difference.
    AuditFailed = "E0406", External;
    /// A task panicked; the job fails alone.
    Panic = "E0407", Internal;
    /// A commit could not be completed yet; it is retried.
    CommitPending = "E0408", External;
    /// A rollback would leave rows in a sink that cannot take them back.
    CannotWithdraw = "E0409", User;
    /// A proof (`chaos`, `sim`) found something lost, doubled or broken.
    ProofFailed = "E0410", External;
    /// A proof found nothing wrong, and not enough was tried or looked at to say so.
    NotProved = "E0411", External;

    // E05xx: the command line and configuration.
    /// Bad arguments.
    Usage = "E0501", User;
    /// An invariant does not hold.
    Invariant = "E0502", Internal;
    /// Something that cannot happen.
    Internal = "E0503", Internal;

    // E06xx: the cluster.
    /// This coordinator does not lead its group.
    NotLeader = "E0601", External;
    /// No majority of the coordinators answers.
    NoQuorum = "E0602", External;
    /// An executor was not heard of within its lease, or has restarted.
    ExecutorLost = "E0603", External;
    /// Two executors do not reach each other.
    LinkBroken = "E0604", External;
    /// No access token was shown, or one that the cluster does not know.
    NotAuthenticated = "E0605", User;
    /// The access token is past its time.
    TokenExpired = "E0606", User;
    /// The role of the access token does not allow it.
    NotAllowed = "E0607", User;
    /// A certificate is not of this cluster, or not of the role or node that its holder takes.
    CertificateRefused = "E0608", User;
    /// More requests than one principal may make.
    TooManyRequests = "E0609", User;
    /// The group has removed this coordinator.
    MemberRemoved = "E0610", User;
    /// Another executor of the same name lives.
    NodeNameTaken = "E0611", User;
    /// An executor cannot be drained: no other one could take over its work.
    NoRoom = "E0612", User;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where an error lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// In the SQL text; 1-based.
    Sql { line: u64, column: u64 },
    /// In a file or other origin, as the user names it; `offset` counts what the origin counts
    /// (bytes or lines: `unit` says which).
    Origin { origin: String, offset: Option<u64>, unit: String },
    /// A named thing: a table, a job, an option, an object.
    Named(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sql { line, column } => write!(f, "line {line}, column {column}"),
            Self::Origin { origin, offset: Some(offset), unit } => write!(f, "{origin}, {unit} {offset}"),
            Self::Origin { origin, offset: None, .. } => f.write_str(origin),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// An error with everything a user needs to act on it. Boxed inside, so that `Result` stays small.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Error(Box<Body>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Body {
    code: Code,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<Place>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Error {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self(Box::new(Body { code, message: message.into(), place: None, hint: None }))
    }

    /// A bug in Qanat: something that cannot happen did.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, message)
    }

    /// An operating-system error while doing `what` (present tense: "read manifest"), mapped to the
    /// code a user can act on.
    pub fn io(what: impl fmt::Display, error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        let code = match error.kind() {
            ErrorKind::NotFound => Code::PathNotFound,
            ErrorKind::PermissionDenied => Code::PermissionDenied,
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Code::DiskFull,
            _ => Code::Io,
        };
        let made = Self::new(code, format!("could not {what}: {error}"));
        match code {
            _ if is_out_of_files(error) => made.hint("raise the limit of open files (`ulimit -n`)"),
            Code::DiskFull => made.hint("make room on that disk, or move the folder to a larger one"),
            _ => made,
        }
    }

    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.0.place = Some(place);
        self
    }

    /// Sets the place if none is known yet.
    #[must_use]
    pub fn or_at(mut self, place: impl FnOnce() -> Place) -> Self {
        if self.0.place.is_none() {
            self.0.place = Some(place());
        }
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    pub fn code(&self) -> Code {
        self.0.code
    }

    pub fn message(&self) -> &str {
        &self.0.message
    }

    pub fn place(&self) -> Option<&Place> {
        self.0.place.as_ref()
    }

    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.0.code, self.0.message)?;
        if let Some(place) = &self.0.place {
            write!(f, " ({place})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

/// Nobody misspells a longer name, and the work grows with it.
const CHARACTERS_MAX: usize = 256;

/// The name in `names` nearest to `wrong`, if it is near enough to be what was meant.
pub fn nearest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if wrong.chars().nth(CHARACTERS_MAX).is_some() {
        return None;
    }
    let wrong = wrong.to_lowercase();
    let limit = (wrong.chars().count() / 3).max(1) + 1;
    names
        .into_iter()
        .map(|name| (edit_distance(&wrong, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// All of `names`, the nearest to `wrong` first: those that hold it or are part of it, then by the letters that differ.
/// Says of how many one may have been meant.
pub fn by_distance<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> (Vec<&'a str>, usize) {
    // A part of a name of fewer letters is chance.
    const PART_MIN: usize = 3;
    let wrong: String = wrong.to_lowercase().chars().take(CHARACTERS_MAX).collect();
    let limit = (wrong.chars().count() / 3).max(1) + 1;
    let rank = |name: &'a str| {
        let lower = name.to_lowercase();
        let is_part =
            wrong.len() >= PART_MIN && lower.contains(&wrong) || lower.len() >= PART_MIN && wrong.contains(&lower);
        (if is_part { 0 } else { edit_distance(&wrong, &lower) }, name)
    };
    let mut ranked: Vec<(usize, &str)> = names.into_iter().map(rank).collect();
    ranked.sort_by_key(|(distance, _)| *distance);
    let meant = ranked.iter().filter(|(distance, _)| *distance <= limit).count();
    (ranked.into_iter().map(|(_, name)| name).collect(), meant)
}

/// Levenshtein distance in characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, cb) in row.iter_mut().skip(1).zip(&b) {
            let substitute = diagonal + usize::from(ca != *cb);
            diagonal = *cell;
            left = substitute.min(left + 1).min(*cell + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

/// Whether the process or the system has no room for another open file.
pub fn is_out_of_files(error: &std::io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_well_formed() {
        let mut seen = std::collections::BTreeSet::new();
        for code in Code::ALL {
            let text = code.as_str();
            assert!(text.len() == 5 && text.starts_with('E') && text[1..].bytes().all(|b| b.is_ascii_digit()));
            assert!(seen.insert(text), "{text} stands twice");
        }
    }

    #[test]
    fn nearest_finds_typos_and_nothing_else() {
        assert_eq!(nearest("carier", ["carrier", "name"]), Some("carrier"));
        assert_eq!(nearest("conector", ["connector", "format"]), Some("connector"));
        assert_eq!(nearest("zzz", ["connector", "format"]), None);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
    }

    #[test]
    fn names_by_distance_begin_with_what_may_have_been_meant() {
        let names = ["path", "format", "csv.null-literal", "json.null-literal", "csv.quote-character"];
        let (ranked, meant) = by_distance("null-literal", names);
        assert_eq!((&ranked[..2], meant, ranked.len()), (&["csv.null-literal", "json.null-literal"][..], 2, 5));
        assert_eq!(by_distance("fromat", names).0.first(), Some(&"format"));
        assert_eq!(by_distance("zzzzzzzzzz", names).1, 0);
        assert_eq!(by_distance(&"x".repeat(10_000), names).1, 0);
    }

    #[test]
    fn errors_survive_json() {
        let error = Error::new(Code::UnknownColumn, "no column `x`")
            .at(Place::Sql { line: 1, column: 8 })
            .hint("did you mean `y`?");
        let text = serde_json::to_string(&error).expect("serializes");
        assert_eq!(serde_json::from_str::<Error>(&text).expect("parses"), error);
    }
}
