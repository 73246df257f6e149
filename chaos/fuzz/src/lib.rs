//! What every decoder of outside bytes has to hold, as plain functions of bytes.
//!
//! Two drivers call them: the smoke in `tests/smoke.rs`, which is part of `cargo test`, and the targets of `cargo fuzz`
//! in the folder `fuzz/` at the top, for as long as somebody lets them run. What holds is more than that nothing
//! panics: a decode that succeeds encodes again to the same meaning, a failure is an error with a code that the decoder
//! is known to give, and memory is bounded by the input and not by the numbers in it.
//!
//! A crate of its own: the decoders bring the planner and the connectors along, which the models and campaigns of
//! `qanat-chaos` do without and would wait for.
//!
//! What must never happen: a target that holds because nothing reaches its decoder. The smoke counts what was taken and
//! what was refused, and fails if either is none.

pub mod documents;
pub mod exchange;
pub mod formats;
pub mod log;
pub mod memory;
pub mod messages;
pub mod mutate;
pub mod plan;
pub mod smoke;
pub mod sql;
pub mod verdict;
mod words;

use std::path::{Path, PathBuf};

use mutate::Form;
pub use verdict::Verdict;

/// A decoder, what must hold of it, and where its corpus comes from.
pub struct Target {
    /// That of its file in `fuzz/fuzz_targets` and of its folder in `fuzz/corpus`.
    pub name: &'static str,
    /// Panics if something does not hold.
    pub body: fn(&[u8]) -> Verdict,
    pub form: Form,
    /// What the bytes say as they are, of a format whose checksums cover every bit of it: with one bit of a seed
    /// flipped that is the same or nothing.
    pub meaning: Option<fn(&[u8]) -> Option<String>>,
    /// Real encodings, with telling names. Those whose name begins with `ok` are accepted, the others are not.
    pub seeds: fn() -> Vec<Seed>,
    /// Damaged inputs in the smoke of `cargo test`.
    pub rounds: usize,
    /// Bytes that it may hold at once for an empty input, and for each byte of one.
    pub memory: (usize, usize),
}

/// The top folder of the repository.
pub fn top() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own).to_owned()
}

/// An entry of a corpus.
pub type Seed = (String, Vec<u8>);

/// A decoder that reads what is in front of it.
const MODEST: (usize, usize) = (8 << 20, 1 << 10);
/// One that decompresses, or reads ahead in large pieces.
const ROOMY: (usize, usize) = (96 << 20, 4 << 10);

/// All targets, by family.
pub const TARGETS: &[Target] = &[
    sql::SCRIPT,
    sql::WORDS,
    plan::EXPRESSION,
    plan::GRAPH,
    messages::MESSAGES,
    messages::CONTROL,
    messages::RAFT,
    exchange::ROWS,
    exchange::OPENING,
    log::SEGMENT,
    log::STAGED,
    log::DOCUMENTS,
    documents::MANIFEST,
    documents::STATE_FILE,
    documents::JOURNAL,
    documents::COMMIT_RECORD,
    documents::SMALL_FILE,
    formats::CSV,
    formats::JSON,
    formats::PARQUET,
    formats::ARROW,
    formats::COMPRESSED,
];

impl Target {
    /// Runs the body once.
    ///
    /// # Panics
    /// If something does not hold.
    pub fn run(&self, input: &[u8]) -> Verdict {
        let (verdict, peak) = memory::peak_of(|| (self.body)(input));
        let (base, each) = self.memory;
        let most = base + each * input.len();
        assert!(peak <= most, "{peak} bytes are held for an input of {}: at most {most} may be", input.len());
        verdict
    }
}

/// Runs a target by its name: what the targets of `cargo fuzz` call.
///
/// # Panics
/// If there is none, or something does not hold.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    let _ = target.unwrap_or_else(|| panic!("there is no target `{name}`")).run(input);
}
