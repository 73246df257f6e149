//! How a process is watched: metrics over HTTP, and logs.

mod http;
pub(crate) mod logs;
mod process;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use clap::Args;
use qanat_proto::exposition::Page;
use qanat_proto::{Code, Error, Place, Result};
use qanat_storage::env::Env;

/// Where a process serves its metrics.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct MetricsArguments {
    /// Serve metrics for Prometheus at `http://HOST:PORT/metrics`; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) metrics: Option<String>,
    /// Let `--metrics` listen beyond loopback, where everybody who reaches it reads the names of jobs and tables.
    #[arg(long, requires = "metrics")]
    pub(crate) metrics_insecure: bool,
}

impl MetricsArguments {
    /// Has the address bound, if there is one.
    ///
    /// # Errors
    /// E0501 for no address, or one beyond loopback; E0214 and others if it cannot be bound.
    pub(crate) fn bind(&self, bind: impl Fn(SocketAddr) -> std::io::Result<TcpListener>) -> Result<Option<Metrics>> {
        let Some(address) = &self.metrics else { return Ok(None) };
        let at = || Place::Named(address.clone());
        let parsed: SocketAddr = address.parse().map_err(|e| {
            Error::new(Code::Usage, format!("this is no address to listen at: {e}")).at(at()).hint("write IP:PORT")
        })?;
        if !parsed.ip().is_loopback() && !self.metrics_insecure {
            let error = Error::new(Code::Usage, "metrics are not protected, and are served on loopback only");
            return Err(error.at(at()).hint("use 127.0.0.1, or --metrics-insecure where the network is trusted"));
        }
        let listener = bind(parsed).map_err(|e| Error::io("listen", &e).at(at()))?;
        let address = listener.local_addr().map_err(|e| Error::io("listen", &e).at(at()))?;
        Ok(Some(Metrics { listener, address }))
    }
}

/// A bound address.
pub(crate) struct Metrics {
    listener: TcpListener,
    address: SocketAddr,
}

impl Metrics {
    /// Serves what `show` writes onto each page, on a thread of its own. Returns the announcement.
    ///
    /// # Errors
    /// E0214 if the system gives no more threads.
    pub(crate) fn serve(self, env: &Env, show: impl Fn(&mut Page) + Send + Sync + 'static) -> Result<String> {
        let process = process::Process::new(env);
        let page = move || {
            let mut page = Page::default();
            process.show(&mut page);
            show(&mut page);
            page.finish()
        };
        http::serve(self.listener, Arc::new(page))?;
        Ok(format!("{ANNOUNCEMENT}{}/metrics", self.address))
    }
}

/// What a process says before the address, in one line.
pub(crate) const ANNOUNCEMENT: &str = "metrics at http://";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use qanat_proto::exposition::{FENCED, Family, LEFT_OUT};

    use super::*;

    /// Every metric that any process may show.
    fn families() -> Vec<&'static Family> {
        let common = [&FENCED, &LEFT_OUT];
        let all = [qanat_executor::metrics::FAMILIES, qanat_coordinator::metrics::FAMILIES, process::FAMILIES];
        common.into_iter().chain(all.into_iter().flatten().copied()).collect()
    }

    #[test]
    fn the_guide_lists_every_metric_and_no_other() {
        let page = include_str!("../../docs/guide/metrics.md");
        let written: BTreeMap<String, String> = page
            .lines()
            .filter(|line| line.starts_with("| `qanat_"))
            .map(|line| {
                let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
                (cells[0].trim_matches('`').to_owned(), cells[1..].join(" | "))
            })
            .collect();
        let expected: BTreeMap<String, String> = families()
            .into_iter()
            .map(|family| {
                let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
                (family.name.to_owned(), format!("{} | {} | {}", family.kind.name(), labels.join(", "), family.help))
            })
            .collect();
        let lines = |table: &BTreeMap<String, String>| {
            table.iter().map(|(name, rest)| format!("| `{name}` | {rest} |\n")).collect::<String>()
        };
        assert_eq!(expected.len(), families().len(), "two metrics have one name");
        assert_eq!(lines(&written), lines(&expected), "the table should be:\n{}", lines(&expected));
    }

    #[test]
    fn names_end_with_their_unit() {
        for family in families() {
            let is_counter = family.kind == qanat_proto::exposition::Kind::Counter;
            assert!(family.name.starts_with("qanat_"), "{}", family.name);
            assert_eq!(family.name.ends_with("_total"), is_counter, "{}", family.name);
            for forbidden in ["_ms", "_millis", "_kb", "_percent"] {
                assert!(!family.name.contains(forbidden), "{} is not in a base unit", family.name);
            }
        }
    }

    #[test]
    fn metrics_stay_on_loopback_unless_somebody_says_otherwise() {
        let arguments =
            |address: &str, metrics_insecure| MetricsArguments { metrics: Some(address.to_owned()), metrics_insecure };
        let refused = arguments("0.0.0.0:0", false).bind(TcpListener::bind).err().expect("it is refused");
        assert_eq!(refused.code(), Code::Usage);
        assert!(arguments("0.0.0.0:0", true).bind(TcpListener::bind).expect("it was asked for").is_some());
        assert!(arguments("127.0.0.1:0", false).bind(TcpListener::bind).expect("loopback").is_some());
        assert!(arguments("localhost", false).bind(TcpListener::bind).is_err());
        assert!(MetricsArguments::default().bind(TcpListener::bind).expect("nothing was asked for").is_none());
    }
}
