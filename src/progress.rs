//! The progress line of a running job, on stderr.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use qanat_executor::metrics::JobMetrics;
use qanat_proto::names::Name;
use qanat_storage::env::Env;

use crate::output::duration;

/// One line per job: rows, rows/s, bytes, watermark, how far it is behind the clock, memory. Silent when
/// stderr is no terminal.
pub(crate) struct Progress {
    env: Env,
    enabled: bool,
    bars: BTreeMap<Name, ProgressBar>,
    group: indicatif::MultiProgress,
}

impl Progress {
    pub(crate) fn new(env: Env, enabled: bool) -> Self {
        Self { env, enabled, bars: BTreeMap::new(), group: indicatif::MultiProgress::new() }
    }

    pub(crate) fn show(&mut self, name: &Name, metrics: &Arc<JobMetrics>) {
        if !self.enabled {
            return;
        }
        let group = &self.group;
        let bar = self.bars.entry(name.clone()).or_insert_with(|| {
            let bar = group.add(ProgressBar::new_spinner());
            let style = ProgressStyle::with_template("{spinner} {prefix}: {pos} rows ({per_sec}) {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.set_prefix(name.to_string());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        let records: u64 = metrics.sources.iter().map(|(_, source)| source.records()).sum();
        let bytes: u64 = metrics.sources.iter().map(|(_, source)| source.bytes()).sum();
        let watermark = metrics.sources.iter().filter_map(|(_, source)| source.watermark_ms()).min();
        bar.set_position(records);
        let now = self.env.clock.now_ms();
        let watermark = watermark.map_or_else(
            || "none".to_owned(),
            |ms| format!("{}, lag {}", time_text(ms), lag_text(now.saturating_sub(ms))),
        );
        bar.set_message(format!(
            "{} read, watermark {watermark}, memory {}",
            indicatif::HumanBytes(bytes),
            indicatif::HumanBytes(metrics.memory.used() as u64)
        ));
    }

    /// A line above the bars.
    pub(crate) fn note(&self, text: &str) {
        if self.bars.is_empty() || !self.enabled || !std::io::stderr().is_terminal() {
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        } else {
            let _ = self.group.println(text);
        }
    }

    pub(crate) fn clear(&mut self) {
        let _ = self.group.clear();
        self.bars.clear();
    }
}

/// A timestamp in ms since 1970 UTC, readable.
pub(crate) fn time_text(ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(ms)
        .map_or_else(|| ms.to_string(), |time| time.format("%Y-%m-%d %H:%M:%S").to_string())
}

/// How far a watermark is behind the clock; of the end of the input, not at all.
fn lag_text(ms: i64) -> String {
    duration(u64::try_from(ms).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lags_are_readable() {
        let lags = [-5, 0, 1_250, 65_000, i64::MAX];
        let texts = lags.map(lag_text);
        assert_eq!(texts[..4], ["0 ms", "0 ms", "1.2 s", "1 min 5 s"]);
    }
}
