//! Every rule of the epoch protocol has a test, and `docs/protocol-tests.md` says which.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};

const RULES: usize = 15;

/// Whether `text` has a test of this name.
fn has_test(text: &str, name: &str) -> bool {
    let Some(at) = text.find(&format!("fn {name}(")) else { return false };
    let before = &text[..at];
    before.rfind("#[test]").is_some_and(|mark| !before[mark..].contains("fn "))
}

#[test]
fn every_rule_has_tests_and_every_test_exists() -> Result<()> {
    let chaos = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = chaos.parent().context("the workspace")?;
    let page = std::fs::read_to_string(root.join("docs/protocol-tests.md"))?;
    let protocol = std::fs::read_to_string(root.join("docs/protocol.md"))?;
    let mut named = BTreeMap::new();
    let mut problems = Vec::new();
    for line in page.lines().filter(|line| line.starts_with("| P")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, rule, _, tests, _] = cells[..] else { anyhow::bail!("three columns: {line}") };
        ensure!(protocol.contains(&format!("**{rule}. ")), "{rule} is no rule of docs/protocol.md");
        let mut file = None;
        for word in tests.split('`').skip(1).step_by(2) {
            if word.ends_with(".rs") {
                file = Some((word, std::fs::read_to_string(root.join(word)).with_context(|| word.to_owned())?));
                continue;
            }
            let (path, text) = file.as_ref().with_context(|| format!("{rule}: `{word}` stands in no file"))?;
            if !has_test(text, word) {
                problems.push(format!("{rule}: {path} has no test `{word}`"));
            }
            *named.entry(rule.to_owned()).or_insert(0) += 1;
        }
    }
    problems.extend((1..=RULES).map(|n| format!("P{n}")).filter(|rule| !named.contains_key(rule)));
    ensure!(problems.is_empty(), "\n  {}", problems.join("\n  "));
    ensure!(named.len() == RULES, "{named:?}");
    Ok(())
}

#[test]
fn a_function_that_is_no_test_does_not_count() {
    let text = "#[test]\nfn a() {}\nfn b() {}\n/// c\n#[test]\n#[cfg(unix)]\nfn d() {}\n";
    assert!(has_test(text, "a") && has_test(text, "d"));
    assert!(!has_test(text, "b") && !has_test(text, "c"));
}
