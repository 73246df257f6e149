//! `qanat chaos`: faults to a running test cluster while its jobs run, and the proof that they did no harm.

use std::time::Duration;

use clap::Args;
use qanat_proto::{Code, Error, Result};
use qanat_storage::env::Env;

use crate::chaos::{ChaosOptions, Kind, Trial};
use crate::cli::cluster::ClusterArguments;
use crate::cli::token::duration_ms;
use crate::output::{self, Format};
use crate::proof::quoted;

/// Do faults to a running TEST cluster on this machine while its jobs run, and prove that nothing is lost or doubled.
///
/// Kills, pauses, restarts and drains the cluster's processes, rescales its jobs and names epochs, one fault after the
/// other, drawn from a seed. After each all nodes must be back and all jobs commit on within a bound. At the end, after
/// Ctrl-C too, everything is as it was, and each job is audited. Processes of other machines are never touched, and
/// never a majority of the coordinators at once. The exit status is 0 only for `pass` (E0410 for `fail`, E0411 for
/// `unknown`).
#[derive(Args, Debug)]
pub(crate) struct Chaos {
    #[command(flatten)]
    cluster: ClusterArguments,
    /// No fault begins later than this: `30s`, `10m`, `12h`.
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    lasts: Duration,
    /// What the faults are drawn from; drawn itself, and told, if not given.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// What may happen; each of these has to, or the verdict is `unknown`. All that this cluster can have if not given.
    #[arg(long, value_name = "KIND,...", value_enum, value_delimiter = ',')]
    kinds: Vec<Kind>,
    /// A job to prove; all that have not ended if none is given. May be repeated.
    #[arg(long = "job", value_name = "NAME")]
    jobs: Vec<String>,
    /// How long nodes and jobs may take to come back after a fault.
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "60s")]
    within: Duration,
    /// Yes, this is a test cluster.
    #[arg(long)]
    yes: bool,
}

fn time(text: &str) -> std::result::Result<Duration, String> {
    duration_ms(text).map(|ms| Duration::from_millis(ms.unsigned_abs()))
}

impl Chaos {
    pub(crate) fn execute(&self, format: Format) -> Result<()> {
        // Short: it is typed again.
        let seed = self.seed.unwrap_or_else(|| Env::real().entropy.u64() >> 40);
        let addresses = self.cluster.addresses()?;
        let options = ChaosOptions {
            seed,
            lasts: self.lasts,
            within: self.within,
            kinds: if self.kinds.is_empty() { Kind::ALL.to_vec() } else { self.kinds.clone() },
            is_chosen: !self.kinds.is_empty(),
            jobs: self.jobs.clone(),
            replay: self.replay(&addresses, seed),
        };
        let cluster = self.cluster.clone();
        let connect = Box::new(move |addresses: &str| cluster.client(addresses));
        let report = self.cluster.ask(|_| async move {
            let trial = Trial::prepare(connect, &addresses, options).await?;
            output::note(&trial.announcement());
            if !self.yes {
                let error = Error::new(Code::Usage, "this kills and pauses the processes that stand above");
                return Err(error.hint("if that is a test cluster, say --yes; never do this to one that matters"));
            }
            Ok(trial.prove().await)
        })?;
        report.print(format);
        report.outcome()
    }

    fn replay(&self, addresses: &str, seed: u64) -> String {
        let text = |time: Duration| match time.subsec_millis() {
            0 => format!("{}s", time.as_secs()),
            _ => format!("{}ms", time.as_millis()),
        };
        let mut words = ["qanat", "chaos", "--cluster", addresses].map(str::to_owned).to_vec();
        words.extend(self.cluster.security_words());
        words.extend(["--for".to_owned(), text(self.lasts), "--seed".to_owned(), seed.to_string()]);
        if !self.kinds.is_empty() {
            let kinds: Vec<String> = self.kinds.iter().map(ToString::to_string).collect();
            words.extend(["--kinds".to_owned(), kinds.join(",")]);
        }
        words.extend(self.jobs.iter().flat_map(|job| ["--job".to_owned(), job.clone()]));
        words.extend(["--within".to_owned(), text(self.within), "--yes".to_owned()]);
        words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }
}
