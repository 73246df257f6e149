//! Texts that people write: scripts, and the small words of options, settings and command lines.

use std::collections::BTreeMap;

use qanat_connectors::Catalog;
use qanat_proto::access::{AccessToken, Role};
use qanat_proto::address;
use qanat_proto::ids::{JobId, OperatorId, StartId, TokenId};
use qanat_proto::names::{Name, Origin};
use qanat_proto::receipt::RowHash;
use qanat_proto::settings::{JobSettings, parse_duration_ms, parse_size};
use qanat_proto::trace::TraceParent;
use qanat_proto::{Code, Error};
use qanat_sql::{PlanOptions, plan_script};
use qanat_storage::log::Start;

use crate::mutate::Form;
use crate::verdict::json;
use crate::{MODEST, Seed, Target, Verdict};

/// A script, as `qanat run` and a cluster's clients hand it in.
pub const SCRIPT: Target = Target {
    name: "sql",
    body: script,
    form: Form::Sql,
    meaning: None,
    seeds: script_seeds,
    rounds: 160,
    // The planner's own tables, and plans that are many times as long as their text.
    memory: (64 << 20, 32 << 10),
};

fn script(input: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(input) else { return Verdict::Refused };
    match plan_script(text, &PlanOptions::default(), &Catalog) {
        Ok(planned) => {
            drop(qanat_sql::explain(&planned));
            for job in &planned.jobs {
                crate::plan::same_graph(&job.graph);
            }
            Verdict::Accepted
        }
        Err(error) => {
            in_good_order(&error);
            Verdict::Refused
        }
    }
}

/// An error that is the text's and not the planner's.
fn in_good_order(error: &Error) {
    assert!(![Code::Internal, Code::Invariant, Code::Panic].contains(&error.code()), "{error:?}");
    assert!(!error.message().is_empty());
}

/// Scripts of the examples and of the SQL cases, by name, without the comments that say what a case expects.
pub fn scripts() -> Vec<(String, String)> {
    let mut texts = Vec::new();
    let mut open = ["tests/slt", "examples"].map(|folder| crate::top().join(folder)).to_vec();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of scripts").flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "sql") {
                let text = std::fs::read_to_string(&path).expect("a script");
                let text: String =
                    text.lines().filter(|line| !line.starts_with("--")).map(|line| format!("{line}\n")).collect();
                texts.push((path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), text));
            }
        }
    }
    texts.sort();
    texts
}

/// Short ones.
fn script_seeds() -> Vec<Seed> {
    const BYTES_MAX: usize = 1_100;
    let mut texts = scripts();
    texts.retain(|(_, text)| text.len() <= BYTES_MAX);
    // Those of one operator are much alike: one of six is enough.
    let chosen = texts.into_iter().step_by(6);
    let named = chosen.map(|(stem, text)| {
        let is_planned = plan_script(&text, &PlanOptions::default(), &Catalog).is_ok();
        (format!("{}-{stem}", if is_planned { "ok" } else { "bad" }), text.into_bytes())
    });
    let mut seeds: Vec<Seed> = named.collect();
    seeds.push(("bad-unknown-table".to_owned(), b"SELECT a FROM b;".to_vec()));
    seeds
}

/// Words: sizes, durations, times, names, ids, addresses, tokens, settings. An input is `what=word`.
pub const WORDS: Target = Target {
    name: "words",
    body: words,
    form: Form::Text,
    meaning: None,
    seeds: word_seeds,
    rounds: 20_000,
    memory: MODEST,
};

fn words(input: &[u8]) -> Verdict {
    let Some((what, word)) = std::str::from_utf8(input).ok().and_then(|text| text.split_once('=')) else {
        return Verdict::Refused;
    };
    Verdict::of(match what {
        "duration" => parse_duration_ms(word).is_some(),
        "size" => parse_size(word).is_some(),
        "time" => qanat_connectors::format::parse_timestamp_ms(word).is_some(),
        "start" => word.parse::<Start>().is_ok(),
        "address" => address::check(word).is_ok(),
        "role" => word.parse::<Role>().is_ok_and(|role| role.as_str().parse::<Role>().is_ok()),
        "token" => AccessToken::parse(word).is_ok_and(|token| same(token.reveal(), word)),
        // What later versions add is not handed on, so it is written as the first one.
        "trace" => TraceParent::parse(word).is_some_and(|trace| {
            same(trace.to_string().get(2..).unwrap_or_default(), word.get(2..55).unwrap_or_default())
        }),
        "name" => Name::new(word).is_ok_and(|name| same(name.as_str(), word)),
        "object" => Origin::parse_object(word).is_some_and(|(origin, sequence)| {
            // Names of other forms that lead to the same are read too.
            Origin::parse_object(&origin.object(sequence)) == Some((origin, sequence))
        }),
        "job" => word.parse::<JobId>().is_ok_and(|id| same(&id.to_string(), word)),
        "operator" => word.parse::<OperatorId>().is_ok_and(|id| same(&id.to_string(), word)),
        "executor" => word.parse::<StartId>().is_ok_and(|id| same(&id.to_string(), word)),
        "token_id" => word.parse::<TokenId>().is_ok_and(|id| same(&id.to_string(), word)),
        "hash" => word.parse::<RowHash>().is_ok(),
        "manifest" => {
            word.parse::<qanat_storage::checkpoint::ManifestKey>().is_ok_and(|key| same(&key.to_string(), word))
        }
        "setting" => setting(word),
        _ => false,
    })
}

fn same(again: &str, word: &str) -> bool {
    assert_eq!(again, word, "one spelling");
    true
}

fn setting(word: &str) -> bool {
    let Some((key, value)) = word.split_once('=') else { return false };
    match JobSettings::from_pairs(&BTreeMap::from([(key.to_owned(), value.to_owned())])) {
        Ok(settings) => json::<JobSettings>(&serde_json::to_vec(&settings).expect("settings are JSON")).is_some(),
        Err(error) => {
            in_good_order(&error);
            false
        }
    }
}

fn word_seeds() -> Vec<Seed> {
    let origin = crate::documents::origin();
    let object = origin.object(4);
    let token = AccessToken::new(9, [7; 32]);
    let trace = TraceParent::new(0x1234_5678, 9).map(|trace| trace.to_string()).unwrap_or_default();
    let manifest = crate::documents::manifest_key().to_string();
    let words = [
        ("duration", "500 ms"),
        ("duration", "2 min"),
        ("size", "128MB"),
        ("time", "2013-01-01T10:00:00.123456789Z"),
        ("time", "2013-01-01 10:00:00"),
        ("start", "earliest"),
        ("start", "17"),
        ("start", "2013-01-01T05:00:00Z"),
        ("address", "host.example:7001"),
        ("address", "[::1]:7001"),
        ("role", "operator"),
        ("token", token.reveal()),
        ("trace", &trace),
        ("name", "orders.late"),
        ("object", &object),
        ("job", "0000000000000000000000000000000a"),
        ("operator", "000000000000000a"),
        ("executor", "000000000000000a"),
        ("token_id", "000000000000000a"),
        ("hash", "0000000000000000000000000000000a"),
        ("manifest", &manifest),
        ("setting", "execution.checkpointing.interval=10 s"),
        ("setting", "parallelism.default=4"),
    ];
    let seed = |(index, (what, word)): (usize, &(&str, &str))| {
        let input = format!("{what}={word}").into_bytes();
        let is_taken = words_accept(&input);
        (format!("{}-{what}-{index}", if is_taken { "ok" } else { "bad" }), input)
    };
    words.iter().enumerate().map(seed).collect()
}

fn words_accept(input: &[u8]) -> bool {
    words(input) == Verdict::Accepted
}
