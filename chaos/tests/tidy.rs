//! What the repository holds itself to, checked over its own files: the direction of dependencies, the
//! one door to disk, clock and randomness, file sizes, error pages, links.
//!
//! A rule that must be broken somewhere has an allow-list here, with the reason.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use qanat_proto::Code;

/// Lines above which a file must say why it is longer (`// Longer than 800 lines: …`).
const FILE_LINES_MAX: usize = 800;
const REASON: &str = "Longer than 800 lines:";

/// Crates by level: an edge goes from a higher level to a lower one, never sideways.
const LEVELS: &[&[&str]] = &[
    &["qanat-proto"],
    &["qanat-storage", "qanat-coordinator-core", "qanat-executor-core"],
    &["qanat-sql", "qanat-connectors"],
    &["qanat-coordinator", "qanat-executor"],
    &["qanat-client"],
    // Decoders of all crates below bring the planner along: the models and campaigns of `qanat-chaos` do without.
    &["qanat-chaos", "qanat-benchmarks", "qanat-fuzz"],
    // The targets of `cargo fuzz` are no part of the workspace.
    &["qanat", "qanat-fuzz-targets"],
];

/// What a crate must not depend on although the levels would allow it, and why.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    (
        "qanat-coordinator-core",
        &[
            "tokio",
            "async-trait",
            "futures",
            "crossbeam",
            "sled",
            "object_store",
            "getrandom",
            "libc",
            "rustix",
            "chrono",
        ],
        "decides; does no IO, has no clock and no randomness",
    ),
    (
        "qanat-executor-core",
        &["tokio", "async-trait", "futures", "crossbeam", "sled", "object_store", "getrandom", "libc", "rustix"],
        "decides; does no IO, has no clock and no randomness",
    ),
    ("qanat-proto", &["tokio", "async-trait", "futures", "sled", "getrandom", "libc", "rustix"], "no async, no IO"),
    ("qanat-sql", &["qanat-storage", "tokio", "sled", "getrandom", "libc", "rustix"], "text to graph, no IO"),
    ("qanat-client", &["qanat-storage", "qanat-sql", "qanat-coordinator", "qanat-executor"], "depends on proto alone"),
];

/// Files outside `storage::env` that may use what it guards, and why.
const DOORS: &[(&str, &str, &str)] = &[
    (
        "src/chaos/machine.rs",
        "std::fs",
        "/proc of the machine that faults are done to: nothing of it is kept, and nothing of it is simulated",
    ),
    ("proto/build.rs", "std::fs", "runs when the crate is built, in the folder that the build gives it"),
    ("client/src/call.rs", "Instant::now", "the runtime's clock, which is virtual in the simulator"),
    ("executor/src/attach.rs", "Instant::now", "the runtime's clock, which is virtual in the simulator"),
    ("executor/src/exchange/outgoing.rs", "Instant::now", "the runtime's clock, which is virtual in the simulator"),
    ("client/src/submit.rs", "getrandom", "a library for other programs, which have no environment of ours"),
    (
        "coordinator/src/raft/runtime.rs",
        "rand::",
        "openraft asks for its dice by a static function; seeded in the simulator",
    ),
    (
        "sql/src/parse/stack.rs",
        "std::thread",
        "only a deep stack: whoever starts it waits for it, and nothing else happens",
    ),
    ("src/attach.rs", "std::thread", "a client of jobs in a data folder, which no simulator runs"),
    ("src/beginning.rs", "std::thread", "asks for the number of processors"),
    ("src/cli/run.rs", "std::thread", "waits for signals, and asks for the number of processors"),
    ("src/cli/sim.rs", "std::thread", "asks for the number of processors"),
    ("src/sim/campaign.rs", "std::thread", "waits for the processes of several seeds at once"),
    ("storage/src/suite/object_store.rs", "std::thread", "races for one key, in tests of stores"),
    ("src/cluster/guardian.rs", "std::thread", "ends a real process when another one is gone"),
    ("src/cluster/ending.rs", "std::thread", "ends a real process whatever its threads do"),
    ("src/cluster/executor.rs", "std::thread", "asks for the number of processors"),
    ("src/cluster/family.rs", "std::thread", "reads what child processes print"),
    ("src/observe/http.rs", "std::thread", "serves metrics of a real process"),
];

/// Folders that no rule looks into: what is built and what jobs write.
const SKIPPED: &[&str] = &["target", ".git", "qanat-data", "qanat-out", "node_modules"];

fn root() -> PathBuf {
    let chaos = Path::new(env!("CARGO_MANIFEST_DIR"));
    chaos.parent().unwrap_or(chaos).to_owned()
}

/// All files of the repository, as paths relative to its root with `/`.
fn files() -> Result<Vec<String>> {
    fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) -> Result<()> {
        for entry in std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if SKIPPED.contains(&name.as_str()) {
                continue;
            }
            let kind = entry.file_type()?;
            if kind.is_dir() {
                walk(root, &entry.path(), found)?;
            } else if kind.is_file() {
                found.push(entry.path().strip_prefix(root)?.to_string_lossy().replace('\\', "/"));
            }
        }
        Ok(())
    }
    let root = root();
    let mut found = Vec::new();
    walk(&root, &root, &mut found)?;
    found.sort();
    ensure!(found.len() > 100, "only {} files found under {}", found.len(), root.display());
    Ok(found)
}

fn files_with(ending: &str) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for path in files()? {
        if path.ends_with(ending) {
            let text = std::fs::read_to_string(root().join(&path)).with_context(|| format!("read {path}"))?;
            found.push((path, text));
        }
    }
    Ok(found)
}

fn none(problems: Vec<String>) -> Result<()> {
    ensure!(problems.is_empty(), "\n  {}", problems.join("\n  "));
    Ok(())
}

/// The names a Cargo.toml depends on, in whichever table.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            inside = section.ends_with("dependencies") && !section.starts_with("workspace");
            if let Some((table, name)) = section.rsplit_once('.')
                && table.ends_with("dependencies")
                && !table.starts_with("workspace")
            {
                names.push(name.to_owned());
            }
        } else if inside
            && !line.starts_with('#')
            && let Some(name) = line.split(['.', '=', ' ']).next().filter(|name| !name.is_empty())
        {
            names.push(name.to_owned());
        }
    }
    names
}

fn package_name(manifest: &str) -> Option<&str> {
    let line = manifest.lines().find(|line| line.starts_with("name = "))?;
    line.split('"').nth(1)
}

#[test]
fn dependencies_point_one_way() -> Result<()> {
    let level = |name: &str| LEVELS.iter().position(|crates| crates.contains(&name));
    let mut problems = Vec::new();
    for (path, manifest) in files_with("Cargo.toml")? {
        let name = package_name(&manifest).with_context(|| format!("{path} has no name"))?;
        let Some(own) = level(name) else {
            problems.push(format!("{path}: `{name}` has no level in LEVELS"));
            continue;
        };
        for dependency in dependencies(&manifest) {
            if dependency.starts_with("qanat") && level(&dependency).is_none_or(|other| other >= own) {
                problems.push(format!("{path}: `{name}` must not depend on `{dependency}`"));
            }
            for (_, forbidden, reason) in FORBIDDEN.iter().filter(|(of, _, _)| *of == name) {
                if forbidden.contains(&dependency.as_str()) {
                    problems.push(format!("{path}: `{name}` must not depend on `{dependency}`: {reason}"));
                }
            }
        }
    }
    none(problems)
}

#[test]
fn long_files_say_why() -> Result<()> {
    let mut problems = Vec::new();
    for (path, text) in files_with(".rs")? {
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX && !text.lines().take(40).any(|line| line.starts_with("//") && line.contains(REASON))
        {
            problems.push(format!("{path}: {lines} lines; split it, or say near its top `// {REASON} …`"));
        }
    }
    none(problems)
}

/// Whether a file is made of tests, which may touch the machine directly.
fn is_test(path: &str) -> bool {
    path.starts_with("chaos/")
        || path.starts_with("benchmarks/")
        || path.starts_with("tests/")
        || path.contains("/tests/")
        || path.ends_with("tests.rs")
}

/// A file without its test module, which stands last.
fn without_tests(text: &str) -> &str {
    let end =
        ["\n#[cfg(test)]\nmod tests {", "\n#[cfg(test)]\nmod test {"].iter().filter_map(|mark| text.find(mark)).min();
    end.map_or(text, |end| text.get(..end).unwrap_or(text))
}

/// Whether `word` stands in a line of code as a word of its own.
fn uses(line: &str, word: &str) -> bool {
    let line = line.split("//").next().unwrap_or_default();
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line.get(at + word.len()..).and_then(|text| text.chars().next());
        !before.is_some_and(part_of_name) && (word.ends_with("::") || !after.is_some_and(part_of_name))
    })
}

#[test]
fn one_door_to_disk_clock_and_randomness() -> Result<()> {
    // `tokio::time::sleep` goes by the runtime's clock, which is virtual in the simulator.
    let words = [
        "std::fs",
        "tokio::fs",
        "Instant::now",
        "SystemTime",
        "thread::sleep",
        "rand::",
        "getrandom",
        "std::thread",
        "spawn_blocking",
        "blocking_send",
        "blocking_recv",
        "sync::Condvar",
    ];
    let mut problems = Vec::new();
    let mut opened = BTreeSet::new();
    for (path, text) in files_with(".rs")? {
        if is_test(&path) || path.starts_with("storage/src/env/") {
            continue;
        }
        for (number, line) in without_tests(&text).lines().enumerate() {
            for word in words.iter().filter(|word| uses(line, word)) {
                match DOORS.iter().position(|(file, allowed, _)| *file == path && allowed == word) {
                    Some(door) => {
                        opened.insert(door);
                    }
                    None => problems.push(format!("{path}:{}: `{word}`; use storage::env", number + 1)),
                }
            }
        }
    }
    for (index, (file, word, _)) in DOORS.iter().enumerate() {
        if !opened.contains(&index) {
            problems.push(format!("{file} no longer uses `{word}`: remove it from DOORS"));
        }
    }
    none(problems)
}

#[test]
fn nothing_is_left_undone() -> Result<()> {
    // Put together here, so that this file does not find itself.
    let words = [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("#[ig", "nore")];
    let mut problems = Vec::new();
    for (path, text) in files_with(".rs")? {
        for (number, line) in text.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(**word)) {
                problems.push(format!("{path}:{}: `{word}`", number + 1));
            }
        }
    }
    none(problems)
}

#[test]
fn every_code_has_its_page_and_every_page_a_code() -> Result<()> {
    let codes: BTreeSet<String> = Code::ALL.iter().map(|code| code.to_string()).collect();
    let index = std::fs::read_to_string(root().join("docs/errors/README.md"))?;
    let mut pages = BTreeSet::new();
    let mut problems = Vec::new();
    for (path, text) in files_with(".md")? {
        let Some(page) = path.strip_prefix("docs/errors/").and_then(|file| file.strip_suffix(".md")) else { continue };
        if page == "README" {
            continue;
        }
        pages.insert(page.to_owned());
        if !text.lines().next().unwrap_or_default().contains(page) {
            problems.push(format!("{path}: the first line does not name `{page}`"));
        }
        if !codes.contains(page) {
            problems.push(format!("{path}: no code `{page}` in proto/src/error.rs"));
        }
    }
    for code in &codes {
        if !pages.contains(code) {
            problems.push(format!("{code} has no page docs/errors/{code}.md"));
        }
        if !index.contains(&format!("({code}.md)")) {
            problems.push(format!("{code} is not in docs/errors/README.md"));
        }
    }
    none(problems)
}

#[test]
fn links_lead_somewhere() -> Result<()> {
    let mut problems = Vec::new();
    for (path, text) in files_with(".md")? {
        let page = root().join(&path);
        let folder = page.parent().context("a page has a folder")?;
        let mut code = false;
        for line in text.lines() {
            if line.trim_start().starts_with("```") {
                code = !code;
            }
            if code {
                continue;
            }
            for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let file = target.split('#').next().unwrap_or_default();
                if !file.is_empty() && !file.contains("://") && !folder.join(file).exists() {
                    problems.push(format!("{path}: `{target}` leads nowhere"));
                }
            }
        }
    }
    none(problems)
}

/// GUARANTEES.md names tests by their functions; a test that was renamed takes its promise along.
#[test]
fn guarantees_name_tests_that_exist() -> Result<()> {
    let page = std::fs::read_to_string(root().join("GUARANTEES.md"))?;
    let sources: String = files_with(".rs")?.into_iter().map(|(_, text)| text).collect();
    let is_test_name = |name: &str| {
        let words = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        words && name.matches('_').count() >= 2
    };
    let names: Vec<&str> = page.split('`').skip(1).step_by(2).filter(|name| is_test_name(name)).collect();
    ensure!(names.len() > 20, "only {} tests named", names.len());
    let missing = names.iter().filter(|name| !sources.contains(&format!("fn {name}(")));
    none(missing.map(|name| format!("GUARANTEES.md names `{name}`, which is no function")).collect())
}

/// Nothing of the machine it was written on: no path of it, no package source of its own.
#[test]
fn files_know_no_machine() -> Result<()> {
    let root = root();
    let own = root.to_string_lossy().into_owned();
    let homes = [concat!("/ho", "me/"), concat!("/Us", "ers/"), concat!("/ro", "ot/")];
    let endings = [".rs", ".md", ".toml", ".sql", ".lock", ".slt", ".yml", ".yaml", ".sh", "/run", ".gitignore"];
    let mut problems = Vec::new();
    for path in files()?.into_iter().filter(|path| endings.iter().any(|ending| path.ends_with(ending))) {
        let text = std::fs::read_to_string(root.join(&path)).with_context(|| format!("read {path}"))?;
        let is_build_file = path.ends_with("Cargo.toml") || path.ends_with("Cargo.lock") || path.starts_with(".");
        for (number, line) in text.lines().enumerate() {
            // A root as short as `/qanat` would match by chance.
            let names_root = own.matches('/').count() > 1 && line.contains(&format!("{own}/"));
            if names_root || homes.iter().any(|home| line.contains(home)) {
                problems.push(format!("{path}:{}: an absolute path", number + 1));
            }
            if is_build_file && line.contains("://") && !line.contains("https://github.com/rust-lang/crates.io-index") {
                problems.push(format!("{path}:{}: a package source of its own", number + 1));
            }
        }
    }
    none(problems)
}

#[test]
fn the_rules_find_what_they_look_for() {
    assert!(uses("let t = std::time::SystemTime::now();", "SystemTime"));
    assert!(!uses("TableVersion::ForSystemTimeAsOf(x)", "SystemTime"));
    assert!(uses("std::fs::read(path)", "std::fs"));
    assert!(!uses("x(); // unlike std::fs this syncs", "std::fs"));
    assert!(!uses("operand::new()", "rand::"));
    assert!(uses("rand::random()", "rand::"));
    let manifest = "[package]\nname = \"a\"\n[dependencies]\nqanat-proto.workspace = true\nserde = \"1\"\n\
                    [dev-dependencies.qanat-sql]\npath = \"x\"\n[target.'cfg(unix)'.dependencies]\nlibc = \"1\"\n\
                    [lints]\nworkspace = true\n";
    assert_eq!(dependencies(manifest), ["qanat-proto", "serde", "qanat-sql", "libc"]);
    assert_eq!(package_name(manifest), Some("a"));
}
