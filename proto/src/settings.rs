//! Settings of a job: what `SET 'key' = 'value'` and `--set key=value` mean.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result, nearest};
use crate::graph::Firing;
use crate::limits;

/// Typed settings of one job. Keys follow Flink where Flink has one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JobSettings {
    /// `execution.checkpointing.interval`: time between epochs.
    pub epoch_interval_ms: u64,
    /// `execution.checkpointing.timeout` (P8).
    pub epoch_timeout_ms: u64,
    /// `execution.checkpointing.max-size`: bytes that a source subtask reads in one epoch before it asks for the next
    /// barrier (P8).
    pub epoch_bytes: u64,
    /// `parallelism.default`. 0: one subtask per core.
    pub parallelism: u32,
    /// `pipeline.max-parallelism`: number of key groups, fixed for the life of the state.
    pub key_groups: u16,
    /// `execution.exchange.compression`: of rows on their way to another executor.
    pub exchange_compression: ExchangeCompression,
    /// `job.memory`: budget of state and buffers in bytes.
    pub memory_bytes: usize,
    /// `window.allowed-lateness`.
    pub allowed_lateness_ms: u64,
    /// `table.exec.emit.early-fire.delay`: how long after a change a window is told before its end, if
    /// `table.exec.emit.early-fire.enabled`.
    pub early_fire_ms: u64,
    pub early_fire: bool,
    /// `table.exec.emit.late-fire.delay`: the same behind its end, if `table.exec.emit.late-fire.enabled`.
    pub late_fire_ms: u64,
    pub late_fire: bool,
    /// `window.firing`: when overlapping windows fire.
    pub window_firing: Firing,
    /// `table.exec.source.idle-timeout`: 0 for never.
    pub idle_timeout_ms: u64,
    /// `table.exec.mini-batch.allow-latency`: how long rows that change are gathered before they are told.
    pub mini_batch_ms: u64,
    /// `table.exec.state.ttl`: how long operators without a window keep what nobody touches. 0: for ever.
    pub state_ttl_ms: u64,
    /// `execution.checkpointing.num-retained`.
    pub checkpoints_kept: usize,
    /// `table.local-time-zone` is accepted only as UTC.
    pub time_zone: String,
}

/// What rows are compressed with on their way to another executor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExchangeCompression {
    /// Fastest where a link carries more than about a gigabyte per second.
    #[default]
    None,
    Lz4,
}

impl Default for JobSettings {
    fn default() -> Self {
        Self {
            epoch_interval_ms: limits::EPOCH_INTERVAL_MS_DEFAULT,
            epoch_timeout_ms: limits::EPOCH_TIMEOUT_MS_DEFAULT,
            epoch_bytes: limits::EPOCH_BYTES_DEFAULT,
            parallelism: 0,
            key_groups: limits::KEY_GROUPS_DEFAULT,
            exchange_compression: ExchangeCompression::None,
            memory_bytes: limits::JOB_MEMORY_BYTES_DEFAULT,
            allowed_lateness_ms: 0,
            early_fire_ms: 0,
            early_fire: false,
            late_fire_ms: 0,
            late_fire: false,
            window_firing: Firing::Complete,
            idle_timeout_ms: 0,
            mini_batch_ms: limits::MINI_BATCH_MS_DEFAULT,
            state_ttl_ms: 0,
            checkpoints_kept: limits::CHECKPOINTS_KEPT_DEFAULT,
            time_zone: "UTC".to_owned(),
        }
    }
}

/// The keys that [`JobSettings::set`] takes, for hints and for the guide.
pub const KEYS: &[&str] = &[
    "execution.checkpointing.interval",
    "execution.checkpointing.timeout",
    "execution.checkpointing.max-size",
    "execution.checkpointing.num-retained",
    "parallelism.default",
    "pipeline.max-parallelism",
    "execution.exchange.compression",
    "job.memory",
    "window.allowed-lateness",
    "window.firing",
    "table.exec.emit.allow-lateness",
    "table.exec.emit.early-fire.enabled",
    "table.exec.emit.early-fire.delay",
    "table.exec.emit.late-fire.enabled",
    "table.exec.emit.late-fire.delay",
    "table.exec.source.idle-timeout",
    "table.exec.mini-batch.allow-latency",
    "table.exec.state.ttl",
    "table.local-time-zone",
];

impl JobSettings {
    /// Applies all pairs over the defaults.
    ///
    /// # Errors
    /// E0112 for an unknown key (with the nearest one) or a bad value.
    pub fn from_pairs(pairs: &BTreeMap<String, String>) -> Result<Self> {
        let mut settings = Self::default();
        for (key, value) in pairs {
            settings.set(key, value)?;
        }
        Ok(settings)
    }

    /// # Errors
    /// E0112 for an unknown key (with the nearest one) or a bad value.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let bad = |what: &str| Error::new(Code::BadSetting, format!("`{value}` is not {what} for `{key}`"));
        let duration = || parse_duration_ms(value).ok_or_else(|| bad("a duration such as `500 ms`, `10 s` or `1 h`"));
        let boolean = || match value.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(bad("`true` or `false`")),
        };
        match key {
            "execution.checkpointing.interval" => {
                self.epoch_interval_ms = duration()?;
                if self.epoch_interval_ms == 0 {
                    return Err(bad("a positive duration"));
                }
            }
            "execution.checkpointing.timeout" => {
                self.epoch_timeout_ms = duration()?;
                if self.epoch_timeout_ms == 0 {
                    return Err(bad("a positive duration"));
                }
            }
            "execution.checkpointing.max-size" => {
                self.epoch_bytes =
                    parse_size(value).filter(|n| *n >= 64 << 10).ok_or_else(|| bad("a size of at least `64 kb`"))?;
            }
            "execution.checkpointing.num-retained" => {
                self.checkpoints_kept =
                    value.parse().ok().filter(|n| *n >= 1).ok_or_else(|| bad("a positive number"))?;
            }
            "parallelism.default" => {
                self.parallelism = value
                    .parse()
                    .ok()
                    .filter(|n| *n <= limits::PARALLELISM_MAX)
                    .ok_or_else(|| bad("a number from 0 to 256"))?;
            }
            "pipeline.max-parallelism" => {
                self.key_groups = value
                    .parse()
                    .ok()
                    .filter(|n| (1..=32_768).contains(n))
                    .ok_or_else(|| bad("a number from 1 to 32768"))?;
            }
            "execution.exchange.compression" => {
                self.exchange_compression = match value.to_ascii_lowercase().as_str() {
                    "none" => ExchangeCompression::None,
                    "lz4" => ExchangeCompression::Lz4,
                    _ => return Err(bad("`none` or `lz4`")),
                }
            }
            "job.memory" => {
                self.memory_bytes = parse_size(value)
                    .and_then(|n| usize::try_from(n).ok())
                    .filter(|n| *n >= 16 << 20)
                    .ok_or_else(|| bad("a size of at least `16 mb`"))?;
            }
            "window.allowed-lateness" | "table.exec.emit.allow-lateness" => self.allowed_lateness_ms = duration()?,
            "table.exec.emit.early-fire.enabled" => self.early_fire = boolean()?,
            "table.exec.emit.early-fire.delay" => self.early_fire_ms = duration()?,
            "table.exec.emit.late-fire.enabled" => self.late_fire = boolean()?,
            "table.exec.emit.late-fire.delay" => self.late_fire_ms = duration()?,
            "window.firing" => {
                self.window_firing = match value.to_ascii_lowercase().as_str() {
                    "complete" => Firing::Complete,
                    "eager" => Firing::Eager,
                    _ => return Err(bad("`complete` or `eager`")),
                }
            }
            "table.exec.source.idle-timeout" => self.idle_timeout_ms = duration()?,
            "table.exec.mini-batch.allow-latency" => self.mini_batch_ms = duration()?,
            "table.exec.state.ttl" | "state.ttl" => self.state_ttl_ms = duration()?,
            "table.local-time-zone" => {
                if !matches!(value.to_ascii_uppercase().as_str(), "UTC" | "ETC/UTC" | "Z" | "+00:00") {
                    return Err(bad("UTC, the only session zone").hint("convert with TO_TIMESTAMP_LTZ or CONVERT_TZ"));
                }
            }
            _ => {
                let error = Error::new(Code::BadSetting, format!("unknown setting `{key}`"));
                return Err(match nearest(key, KEYS.iter().copied()) {
                    Some(name) => error.hint(format!("did you mean `{name}`?")),
                    None => error.hint(format!("settings are: {}", KEYS.join(", "))),
                });
            }
        }
        Ok(())
    }
}

/// `500 ms`, `10s`, `1 min`, `2 h`, `1 d` or a plain number of milliseconds, in milliseconds.
pub fn parse_duration_ms(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text)?;
    let factor = match unit.as_str() {
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000,
        "m" | "min" | "minute" | "minutes" => 60_000,
        "h" | "hour" | "hours" => 3_600_000,
        "d" | "day" | "days" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// `64 kb`, `128MB`, `1 g` or plain bytes, in bytes (powers of 1024).
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text)?;
    let shift = match unit.as_str() {
        "" | "b" | "bytes" => 0,
        "k" | "kb" | "kib" | "kibibytes" => 10,
        "m" | "mb" | "mib" | "mebibytes" => 20,
        "g" | "gb" | "gib" | "gibibytes" => 30,
        "t" | "tb" | "tib" | "tebibytes" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

fn split_number(text: &str) -> Option<(u64, String)> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number = text.get(..digits)?.parse().ok()?;
    Some((number, text.get(digits..)?.trim().to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes() {
        assert_eq!(parse_duration_ms("500 ms"), Some(500));
        assert_eq!(parse_duration_ms("10s"), Some(10_000));
        assert_eq!(parse_duration_ms("1 d"), Some(86_400_000));
        assert_eq!(parse_duration_ms("soon"), None);
        assert_eq!(parse_duration_ms("99999999999999999 d"), None);
        assert_eq!(parse_size("128MB"), Some(128 << 20));
        assert_eq!(parse_size("4 kb"), Some(4096));
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let error = JobSettings::default().set("paralelism.default", "2").expect_err("no such key");
        assert_eq!(error.hint_text(), Some("did you mean `parallelism.default`?"));
    }
}
