//! Scripts that work, broken in every way: whatever comes of it, the planner gives a plan or a refusal,
//! and no panic.
//!
//! `QANAT_SEED=n` chooses other mutations, `QANAT_MUTATIONS=n` how many.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use qanat_proto::Code;

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).expect("below a usize")
    }

    fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len())]
    }
}

/// What stands in for a token now and then.
const STRANGE: &[&str] = &[
    "0",
    "-1",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "1e308",
    "1e999",
    "99999999999999999999999999999999999999.9999999999",
    "0.00000000000000000000000000000000000001",
    "NULL",
    "''",
    "'\u{0}'",
    "'ü'",
    "\u{feff}",
    "$",
    "${",
    "`",
    "\"",
    "'",
    "/*",
    "--\n",
    ";",
    "(",
    ")",
    "[",
    "]",
    "<",
    ">",
    ",",
    ".",
    "::",
    "->",
    "->>",
    "||",
    "*",
    "?",
    "%",
    "INTERVAL '1' SECOND",
    "INTERVAL '0' SECOND",
    "INTERVAL '-1' HOUR",
    "INTERVAL '9999999' DAY",
    "INTERVAL '1' MONTH",
    "INTERVAL '1-1' YEAR TO MONTH",
    "DATE '9999-12-31'",
    "TIMESTAMP '0001-01-01 00:00:00'",
    "TIMESTAMP '294247-01-10 04:00:54.775'",
    "X'00'",
    "TRUE",
    "FALSE",
    "NOT",
    "CAST(1 AS",
    "CASE WHEN",
    "END",
    "ARRAY[1, NULL]",
    "MAP['a', 1]",
    "ROW(1, 'a')",
    "DISTINCT",
    "OVER ()",
    "COUNT(*)",
    "SUM(1)",
    "(SELECT 1)",
    "EXISTS (SELECT 1)",
    "IN (SELECT 1)",
    "UNION ALL",
    "ORDER BY 1",
    "LIMIT 1",
    "HAVING TRUE",
    "GROUP BY 1",
    "DECIMAL(38, 38)",
    "DECIMAL(0, 0)",
    "DECIMAL(39, 1)",
    "TIMESTAMP(9)",
    "TIMESTAMP(10)",
    "BYTES",
    "ARRAY<ROW<a INT>>",
    "MAP<STRING, INT>",
    "PROCTIME()",
    "NOW()",
    "window_start",
    "window_end",
    "window_time",
    "CROSS JOIN",
    "LEFT JOIN",
    "FULL OUTER JOIN",
    "LATERAL",
    "UNNEST",
    "WITH",
    "VALUES (1)",
];

/// Words, numbers, quoted texts and single signs; white space goes to the token before it.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let mut end = match first {
            '\'' => rest[1..].find('\'').map_or(rest.len(), |end| end + 2),
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        end += rest[end..].len() - rest[end..].trim_start().len();
        tokens.push(&rest[..end]);
        rest = &rest[end..];
    }
    tokens
}

fn mutated<'a>(rng: &mut Rng, script: &[&'a str], other: &[&'a str]) -> String {
    let mut tokens = script.to_vec();
    for _ in 0..=rng.below(4) {
        let at = rng.below(tokens.len());
        let to = rng.below(tokens.len());
        let end = (at + 1 + rng.below(12)).min(tokens.len());
        match rng.below(9) {
            0 if !tokens.is_empty() => drop(tokens.remove(at)),
            1 if !tokens.is_empty() => drop(tokens.drain(at..end)),
            2 if !tokens.is_empty() => tokens.insert(at, tokens[at]),
            3 if !tokens.is_empty() => tokens.swap(at, to),
            4 if !tokens.is_empty() => tokens[at] = tokens[to],
            5 if !tokens.is_empty() => tokens[at] = rng.pick(STRANGE),
            6 => tokens.insert(at, rng.pick(STRANGE)),
            7 if !tokens.is_empty() => tokens[at] = rng.pick(other),
            _ => {
                let from = rng.below(other.len());
                let piece = &other[from..(from + 1 + rng.below(12)).min(other.len())];
                drop(tokens.splice(at..at, piece.iter().copied()));
            }
        }
    }
    let mut text = String::new();
    for token in tokens {
        text.push_str(token);
        // Words that came to stand beside each other stay two.
        if token.ends_with(|c: char| !c.is_whitespace()) && rng.below(2) == 0 {
            text.push(' ');
        }
    }
    if rng.below(10) == 0 {
        let at = (0..=rng.below(text.len() + 1)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.insert(at, char::from_u32(rng.below(0x3000).try_into().unwrap_or(0)).unwrap_or('x'));
    }
    text
}

fn scripts(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of scripts").flatten() {
        let path = entry.path();
        if path.is_dir() {
            scripts(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "sql") {
            found.push(path);
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn no_mutation_of_a_script_panics() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    scripts(&root.join("tests/slt"), &mut paths);
    scripts(&root.join("examples"), &mut paths);
    paths.sort();
    let texts: Vec<String> = paths.iter().map(|path| std::fs::read_to_string(path).expect("a script")).collect();
    // Comments say what a case expects; they are no SQL.
    let texts: Vec<String> = texts
        .iter()
        .map(|text| text.lines().filter(|line| !line.starts_with("--")).map(|line| format!("{line}\n")).collect())
        .collect();
    let scripts: Vec<Vec<&str>> = texts.iter().map(|text| tokens(text)).collect();
    let (seed, count) = (number("QANAT_SEED", 1), number("QANAT_MUTATIONS", 300));
    let (next, failures) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let case = next.fetch_add(1, Ordering::Relaxed);
                    if case >= count {
                        return;
                    }
                    let mut rng = Rng(seed.wrapping_mul(0x1000_0000_01b3) ^ case);
                    let index = rng.below(scripts.len());
                    let other = rng.below(scripts.len());
                    let text = mutated(&mut rng, &scripts[index], &scripts[other]);
                    let started = Instant::now();
                    let failure =
                        match super::plan(&qanat_storage::env::Env::real(), &text, &super::PlanOptions::default()) {
                            Ok(script) => {
                                drop(qanat_sql::explain(&script));
                                None
                            }
                            Err(error) if [Code::Internal, Code::Invariant].contains(&error.code()) => {
                                Some(error.to_string())
                            }
                            Err(_) => None,
                        };
                    // A plan takes some milliseconds; the limit is for machines that are busy with other work.
                    let slow = (started.elapsed().as_secs() >= number("QANAT_SLOW", 30)).then(|| "slow".to_owned());
                    if let Some(failure) = failure.or(slow) {
                        let path = paths[index].display();
                        failures.lock().expect("no panic").push(format!("case {case}, {path}: {failure}\n{text}"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no panic");
    assert!(failures.is_empty(), "{} of {count}, seed {seed}:\n{}", failures.len(), failures.join("\n\n"));
}
