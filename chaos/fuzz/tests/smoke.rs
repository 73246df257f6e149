//! A bounded smoke of every target, and what the folder `fuzz/` at the top must hold.
//!
//! `QANAT_FUZZ_ROUNDS=n` does n times as much, `QANAT_SEED=n` damages otherwise, `QANAT_FUZZ_TARGET=name` runs one
//! target alone. `QANAT_FUZZ_CORPUS=write` writes the corpus anew from real encodings: after a format has changed.

use std::collections::BTreeSet;
use std::path::Path;

use prost::Message;
use qanat_fuzz::mutate::{Form, mutated};
use qanat_fuzz::smoke::{Smoke, corpus_bytes, entries, folder, is_made, write_corpus};
use qanat_fuzz::{TARGETS, sql, top};
use qanat_storage::env::sim::Random;

/// The whole corpus is small enough to be looked through.
const CORPUS_BYTES_MAX: usize = 300 << 10;

const TEXTS: &[&str] = &["sql", "words"];
const PLANS: &[&str] = &["expression", "graph"];
const MESSAGES: &[&str] = &["messages", "control", "raft"];
const EXCHANGE: &[&str] = &["exchange", "exchange_opening"];
const LOG: &[&str] = &["log_segment", "log_staged", "log_documents"];
const DOCUMENTS: &[&str] = &["manifest", "state_file", "journal", "commit_record", "small_file"];
const FORMATS: &[&str] = &["csv", "json", "parquet", "arrow", "compressed"];

/// Runs these targets, or of them the one that is asked for.
fn smoke(names: &[&str]) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let wanted = std::env::var("QANAT_FUZZ_TARGET").ok();
    let names: Vec<&str> =
        names.iter().copied().filter(|name| wanted.as_ref().is_none_or(|wanted| wanted == name)).collect();
    let smoke = Smoke {
        seed: std::env::var("QANAT_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1),
        factor: number("QANAT_FUZZ_ROUNDS").unwrap_or(1.0),
        left: folder(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz")).expect("a folder for what fails"),
    };
    if let Err(failures) = smoke.run(&names) {
        panic!("{failures}");
    }
}

#[test]
fn texts_are_planned_or_refused() {
    smoke(TEXTS);
}

/// The corpus has a few of them, which is what damage begins with otherwise.
#[test]
fn no_mutation_of_any_case_panics() {
    let factor = std::env::var("QANAT_FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_u64);
    let seed = std::env::var("QANAT_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1_u64);
    let scripts = sql::scripts();
    for round in 0..150 * factor {
        let random = Random::new(seed.wrapping_mul(0x1000_0000_01b3) ^ round);
        let (name, script) = &scripts[random.index(scripts.len())];
        let (_, other) = &scripts[random.index(scripts.len())];
        let input = mutated(&random, Form::Sql, script.as_bytes(), other.as_bytes());
        let planned = std::panic::catch_unwind(|| (sql::SCRIPT.body)(&input));
        assert!(planned.is_ok(), "round {round} of seed {seed}, from {name}:\n{}", String::from_utf8_lossy(&input));
    }
}

#[test]
fn plans_are_read_or_refused() {
    smoke(PLANS);
}

#[test]
fn messages_are_read_or_refused() {
    smoke(MESSAGES);
}

#[test]
fn rows_between_executors_are_read_or_refused() {
    smoke(EXCHANGE);
}

#[test]
fn files_of_a_log_are_read_or_refused() {
    smoke(LOG);
}

#[test]
fn documents_are_read_or_refused() {
    smoke(DOCUMENTS);
}

#[test]
fn files_of_users_are_read_or_refused() {
    smoke(FORMATS);
}

#[test]
fn every_target_is_in_the_smoke_and_in_cargo_fuzz() {
    let known: BTreeSet<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(known.len(), TARGETS.len(), "a name twice");
    let smoked = [TEXTS, PLANS, MESSAGES, EXCHANGE, LOG, DOCUMENTS, FORMATS].concat();
    assert_eq!(smoked.into_iter().collect::<BTreeSet<_>>(), known);
    let manifest = std::fs::read_to_string(top().join("fuzz/Cargo.toml")).expect("the manifest of cargo fuzz");
    let mut files = BTreeSet::new();
    for entry in std::fs::read_dir(top().join("fuzz/fuzz_targets")).expect("its targets").flatten() {
        let path = entry.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("a target");
        assert!(text.contains(&format!("qanat_fuzz::run(\"{name}\", input)")), "{name}: {text}");
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name} is not in the manifest");
        files.insert(name);
    }
    assert_eq!(files.iter().map(String::as_str).collect::<BTreeSet<_>>(), known);
}

#[test]
fn every_message_of_the_wire_is_fuzzed() {
    let files = prost_types::FileDescriptorSet::decode(qanat_proto::rpc::DESCRIPTORS).expect("our own descriptors");
    let short = |name: &String| name.trim_start_matches(".qanat.").replacen(".v1", "", 1);
    let all: BTreeSet<String> = qanat_fuzz::messages::all_messages(&files).keys().map(short).collect();
    let fuzzed: BTreeSet<String> = qanat_fuzz::messages::NAMES.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(fuzzed, all);
}

#[test]
fn the_corpus_is_what_its_seeds_make() {
    if std::env::var("QANAT_FUZZ_CORPUS").is_ok_and(|what| what == "write") {
        write_corpus().expect("a corpus");
    }
    for target in TARGETS {
        let made: BTreeSet<String> = (target.seeds)().into_iter().map(|(name, _)| name).collect();
        let kept = entries(target).unwrap_or_default().into_iter().map(|(name, _)| name);
        let kept: BTreeSet<String> = kept.filter(|name| is_made(name)).collect();
        assert_eq!(kept, made, "{}: write the corpus anew with QANAT_FUZZ_CORPUS=write", target.name);
    }
    let bytes = corpus_bytes().expect("a corpus");
    assert!(bytes <= CORPUS_BYTES_MAX, "the corpus has {bytes} bytes");
}
