//! Commands of a client, each a process of its own.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;

use super::network::Network;
use super::process::{Ended, Qanat};

/// So long a client tries again: the cluster serves by then.
const INSISTS_MAX: Duration = Duration::from_secs(120);
/// One command. An audit reads all that a job has written.
const COMMAND_MAX: Duration = Duration::from_secs(180);
/// Between two tries.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Where a client stands, and which coordinators it knows.
#[derive(Clone, Debug)]
pub struct Console {
    qanat: Qanat,
    /// In front of its commands.
    front: Vec<String>,
    addresses: String,
}

impl Console {
    pub fn new(qanat: &Qanat, network: &Network, addresses: Vec<String>) -> Self {
        Self { qanat: qanat.clone(), front: network.prefix(None), addresses: addresses.join(",") }
    }

    /// One that knows this coordinator only.
    pub fn at(&self, address: String) -> Self {
        Self { addresses: address, ..self.clone() }
    }

    /// With commas between.
    pub fn addresses(&self) -> &str {
        &self.addresses
    }

    /// A command, whatever comes of it.
    ///
    /// # Errors
    /// If it does not end in time.
    pub fn command(&self, arguments: &[&str]) -> Result<Ended> {
        let all = [&["-o", "json"], arguments, &["--cluster", &self.addresses]].concat();
        self.qanat.run_behind(&self.front, &all, COMMAND_MAX)
    }

    /// A command that succeeds.
    ///
    /// # Errors
    /// If it fails.
    pub fn ask(&self, arguments: &[&str]) -> Result<Value> {
        let ended = self.command(arguments)?;
        ensure!(ended.success(), "`{}` failed: {}", arguments.join(" "), ended.stderr.trim());
        ended.json()
    }

    /// As [`Console::ask`], again and again: whoever has a cluster that serves gets an answer.
    ///
    /// # Errors
    /// All that it was told, if no try succeeds in time, or up to one that `is_final`.
    pub fn insist(&self, arguments: &[&str], is_final: impl Fn(&str) -> bool) -> Result<Value> {
        insist(|| self.ask(arguments), is_final)
    }
}

/// Asks until there is an answer.
///
/// # Errors
/// All that it was told, if no try succeeds in time, or up to one that `is_final`.
pub fn insist(mut ask: impl FnMut() -> Result<Value>, is_final: impl Fn(&str) -> bool) -> Result<Value> {
    let begun = Instant::now();
    let mut told: Vec<String> = Vec::new();
    loop {
        let error = match ask() {
            Ok(answer) => return Ok(answer),
            Err(error) => format!("{error:#}"),
        };
        let is_last = is_final(&error) || begun.elapsed() > INSISTS_MAX;
        if told.last() != Some(&error) {
            told.push(error);
        }
        ensure!(!is_last, "{}", told.join("; then "));
        std::thread::sleep(AGAIN_AFTER);
    }
}
