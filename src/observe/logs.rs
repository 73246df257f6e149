//! What a process logs: to standard error, as text or as one JSON object per line.

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: one object per line, with its spans.
    Json,
}

/// Begins to log. `QANAT_LOG` says what: a level, or levels by target; warnings if it says nothing.
pub(crate) fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_env("QANAT_LOG").unwrap_or_else(|_| EnvFilter::new("warn,openraft=off"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().flatten_event(true).with_current_span(false).with_span_list(true).init(),
    }
}
