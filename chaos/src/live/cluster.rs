//! A whole cluster of real processes under faults, while an independent reader looks at what it writes.
//!
//! [`inject`](super::inject) does the faults, [`operator`](super::operator) is the clients; here is what holds them
//! together: the plan, the watch over progress, and what must hold in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::clients::Clients;
use super::cluster_report::ClusterReport;
use super::fault::{Fault, FaultKind, Plan};
use super::history::History;
use super::ledger;
use super::logs;
use super::members::{COORDINATORS, Members, NODES, name};
use super::network::Network;
use super::operator::{Operator, audit};
use super::process::Qanat;
use super::watch::{Verdict, Watch};
use super::workload::{JOB, Workload};
use crate::oracle::Violation;

/// A cluster whose last fault is over makes progress within this time, or it is stuck (I15).
pub(super) const PROGRESS_MAX: Duration = Duration::from_secs(30);
/// The last part has all the time it needs, within reason, beside what the records take at their rate.
const LAST_MAX: Duration = Duration::from_secs(900);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Between two questions of the client.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// More violations than this tell nothing new.
const VIOLATIONS_MAX: usize = 20;
/// No process of a campaign needs more memory than this (I14): several times what one has when nothing happens, the
/// pages of an unoptimized binary with it.
const MEMORY_MAX: u64 = 1 << 30;

/// How long a campaign goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    Faults(u64),
    Time(Duration),
}

/// What to do.
#[derive(Clone, Debug)]
pub struct ClusterCampaign {
    /// Of each job: one follows the other until all faults have come.
    pub records: u64,
    pub extent: Extent,
    pub rows_per_second: u64,
    pub seed: u64,
    pub parallelism: u32,
    pub interval_ms: u64,
    /// What may happen.
    pub kinds: Vec<FaultKind>,
    /// Proxies, also where the system allows a network for each node.
    pub links: bool,
    pub binary: PathBuf,
    /// Part of the folder's name, so that campaigns of one process do not meet.
    pub name: String,
    /// Leave the folder behind even if all is well.
    pub keep: bool,
}

/// A campaign that is under way.
pub(super) struct Trial {
    pub(super) members: Members,
    pub(super) operator: Operator,
    pub(super) violations: Vec<Violation>,
    pub(super) damages: BTreeMap<String, u64>,
    /// Faults that a node has had; what its process says is judged by them.
    pub(super) felt: BTreeMap<usize, BTreeSet<FaultKind>>,
    workload: Workload,
    watch: Watch,
    /// The job that runs, counted from 1, and what was found of those before.
    round: u64,
    found: Verdict,
    generations: u64,
    history: History,
    /// Of the job that runs.
    clients: Option<Clients>,
    /// To clients, all of which were explained.
    answers: u64,
    faults: BTreeMap<FaultKind, u64>,
    missed: BTreeMap<FaultKind, u64>,
    last: Option<(FaultKind, Instant)>,
    recovered_ms: BTreeMap<FaultKind, Vec<u64>>,
    /// The newest generation and epoch of the job that a client was told.
    newest: (u64, u64),
    looks: u64,
}

impl ClusterCampaign {
    /// Runs it. A failure of the engine is in the report, not an error.
    ///
    /// # Errors
    /// If the trial itself cannot be done.
    pub fn run(&self) -> Result<ClusterReport> {
        let begun = Instant::now();
        let qanat = Qanat::in_new_folder(&self.name, &self.binary)?;
        let network = if self.links { Network::of_links(NODES)? } else { Network::new(NODES)? };
        let members = Members::start(&qanat, network)?;
        let workload = self.workload(&qanat, 1);
        let mut trial = Trial {
            members,
            operator: Operator::default(),
            violations: Vec::new(),
            damages: BTreeMap::new(),
            felt: BTreeMap::new(),
            watch: Watch::new(&workload, &workload.place.sinks),
            workload,
            round: 1,
            found: Verdict::default(),
            generations: 0,
            history: History::new(&qanat.folder)?,
            clients: None,
            answers: 0,
            faults: BTreeMap::new(),
            missed: BTreeMap::new(),
            last: None,
            recovered_ms: BTreeMap::new(),
            newest: (0, 0),
            looks: 0,
        };
        // A cluster that answers nobody any more is a finding, and what there is of it belongs into the report.
        let done = trial.submit(self).and_then(|()| trial.run(self)).and_then(|()| trial.finish());
        let judged = done.and_then(|()| trial.judge());
        trial.violations.extend(judged.err().map(|error| format!("{error:#}")));
        let report = ClusterReport {
            commit: ledger::commit(),
            seed: self.seed,
            records: self.records * trial.round,
            jobs: trial.round,
            network: trial.members.network.name(),
            faults_planned: match self.extent {
                Extent::Faults(faults) => Some(faults),
                Extent::Time(_) => None,
            },
            missing: self.missing(&trial.faults),
            faults: std::mem::take(&mut trial.faults),
            missed: std::mem::take(&mut trial.missed),
            damages: std::mem::take(&mut trial.damages),
            recovered_ms: std::mem::take(&mut trial.recovered_ms),
            generations: trial.generations,
            small_jobs: trial.operator.jobs(),
            peaks: trial.members.servers.iter().map(|server| (server.name.clone(), server.peak())).collect(),
            looks: trial.looks,
            answers: trial.answers,
            elapsed_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            found: std::mem::take(&mut trial.found),
            violations: std::mem::take(&mut trial.violations),
            replay: self.replay(),
            folder: qanat.folder.display().to_string(),
        };
        drop(trial);
        if report.passes() && !self.keep {
            qanat.clean_up();
        }
        Ok(report)
    }

    fn workload(&self, qanat: &Qanat, round: u64) -> Workload {
        let folder = &qanat.folder;
        let all = Workload::of_cluster(self.records, self.rows_per_second, self.interval_ms, folder);
        all.apart(folder, &format!("{JOB}-{round}"))
    }

    /// Fewer faults than kinds can have no more kinds.
    fn missing(&self, faults: &BTreeMap<FaultKind, u64>) -> Vec<FaultKind> {
        let enough = match self.extent {
            Extent::Faults(planned) => usize::try_from(planned).unwrap_or(usize::MAX).min(self.kinds.len()),
            Extent::Time(_) => self.kinds.len(),
        };
        if faults.len() >= enough {
            return Vec::new();
        }
        self.kinds.iter().filter(|kind| !faults.contains_key(kind)).copied().collect()
    }

    fn replay(&self) -> String {
        let extent = match self.extent {
            Extent::Faults(faults) => format!("--faults {faults}"),
            Extent::Time(time) => format!("--for {}s", time.as_secs()),
        };
        let kinds = match self.kinds.len() == FaultKind::ALL.len() {
            true => String::new(),
            false => format!(" --kinds {}", self.kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(",")),
        };
        format!(
            "cargo run -p qanat-chaos --bin cluster -- --records {} {extent} --rate {} --seed {} --parallelism {} --interval-ms {}{kinds}{}",
            self.records,
            self.rows_per_second,
            self.seed,
            self.parallelism,
            self.interval_ms,
            if self.links { " --links" } else { "" }
        )
    }
}

impl Trial {
    fn run(&mut self, campaign: &ClusterCampaign) -> Result<()> {
        let mut plan = Plan::new(campaign.seed, &campaign.kinds);
        let begun = Instant::now();
        loop {
            let is_enough = match campaign.extent {
                Extent::Faults(planned) => self.faults.values().sum::<u64>() >= planned,
                Extent::Time(time) => begun.elapsed() >= time,
            };
            // What is wrong once goes wrong again, and hides how it began.
            if is_enough || !self.violations.is_empty() {
                return Ok(());
            }
            let fault = plan.draw();
            if fault.is_alone {
                self.progresses()?;
            }
            self.pass(fault.delay)?;
            if !self.violations.is_empty() {
                return Ok(());
            }
            if self.job()?.0 == "FINISHED" {
                self.finish()?;
                self.round += 1;
                self.workload = campaign.workload(&self.members.qanat, self.round);
                self.watch = Watch::new(&self.workload, &self.workload.place.sinks);
                self.newest = (0, 0);
                self.submit(campaign)?;
                // Whatever comes meets a job that runs.
                self.progresses()?;
            }
            self.happens(fault, &mut plan)?;
        }
    }

    fn submit(&mut self, campaign: &ClusterCampaign) -> Result<()> {
        let script = format!("{JOB}-{}.sql", self.round);
        self.members.qanat.write(&script, &self.workload.script())?;
        let parallelism = campaign.parallelism.to_string();
        let arguments = ["submit", &script, "--name", JOB, "--parallelism", &parallelism];
        let told = self.members.console.insist(&arguments, |error| !error.contains("E06"))?;
        self.operator.turns_to_new_job();
        let job = told["jobs"][0]["job"].as_str().context("the job has no id")?;
        let seed = campaign.seed.wrapping_add(self.round);
        self.clients = Some(Clients::start(self.members.console.clone(), job, campaign.parallelism, seed));
        Ok(())
    }

    /// Whether it came about before the end of the job.
    pub(super) fn rescale(&self, parallelism: u64) -> Result<bool> {
        self.clients.as_ref().context("no job runs")?.rescale(parallelism)
    }

    /// What clients were told is explained, or that is wrong.
    fn hear(&mut self) {
        if let Some((answers, wrong)) = self.clients.take().map(Clients::finish) {
            self.answers += answers;
            self.violations.extend(wrong);
        }
    }

    fn happens(&mut self, fault: Fault, plan: &mut Plan) -> Result<()> {
        let begun = Instant::now();
        let has_met = self.inject(fault).with_context(|| format!("{fault:?}"))?;
        self.history.note(&fault, begun.elapsed(), has_met)?;
        self.revive()?;
        if has_met {
            *self.faults.entry(fault.kind).or_default() += 1;
            self.last = fault.is_alone.then_some((fault.kind, begun));
        } else {
            *self.missed.entry(fault.kind).or_default() += 1;
            plan.again(fault.kind);
        }
        Ok(())
    }

    /// Nothing ends by itself, unless a fault says so and has seen to it.
    fn revive(&mut self) -> Result<()> {
        for node in 0..NODES {
            if let Some(status) = self.members.server(node)?.ended()? {
                self.violations.push(format!("{} has ended by itself: {status}", name(node)));
                self.members.begin(node)?;
            }
        }
        Ok(())
    }

    /// As a client sees it; what it is told never goes back.
    fn job(&mut self) -> Result<(String, u64, u64)> {
        let (status, generation, epoch) = self.members.job()?;
        if generation < self.newest.0 || epoch < self.newest.1 {
            let before = self.newest;
            self.violations.push(format!("generation and epoch were {before:?}, and are {:?}", (generation, epoch)));
        }
        self.newest = (generation.max(self.newest.0), epoch.max(self.newest.1));
        Ok((status, generation, epoch))
    }

    /// Waits until more rows are visible, or the job has ended. If none come it is stuck.
    fn progresses(&mut self) -> Result<()> {
        let before = self.watch.committed();
        let begun = Instant::now();
        let mut asked = Instant::now();
        loop {
            if self.watch.committed() > before {
                if let Some((kind, at)) = self.last.take() {
                    let after = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
                    self.recovered_ms.entry(kind).or_default().push(after);
                }
                return Ok(());
            }
            // Now and then: a client is a process too, and takes its share of the machine.
            if asked.elapsed() > ASK_EVERY {
                asked = Instant::now();
                let (status, generation, epoch) = self.job()?;
                if status == "FINISHED" {
                    return Ok(());
                }
                if matches!(status.as_str(), "FAILED" | "STOPPED") {
                    let job = self.members.console.ask(&["job", "describe", JOB])?;
                    self.violations.push(format!("the job is {status}: {job}"));
                    return Ok(());
                }
                if begun.elapsed() > PROGRESS_MAX {
                    let last = self.last.map(|(kind, _)| kind);
                    self.violations.push(format!(
                        "no row in {PROGRESS_MAX:?} after epoch {epoch} of generation {generation}, and {last:?}"
                    ));
                    return Ok(());
                }
            }
            self.pass(LOOK_EVERY)?;
        }
    }

    /// Lets time go by, looking.
    pub(super) fn pass(&mut self, time: Duration) -> Result<()> {
        let begun = Instant::now();
        loop {
            self.look()?;
            let left = time.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(LOOK_EVERY));
        }
    }

    /// Lets time go by until something is so. False if it is not in time.
    pub(super) fn until(
        &mut self,
        patience: Duration,
        mut is_so: impl FnMut(&mut Self) -> Result<bool>,
    ) -> Result<bool> {
        let begun = Instant::now();
        while !is_so(self)? {
            if begun.elapsed() > patience {
                return Ok(false);
            }
            self.pass(LOOK_EVERY)?;
        }
        Ok(true)
    }

    /// Waits for the end of the job, and has it judged.
    fn finish(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let (status, generation, _) = self.job()?;
            if status == "FINISHED" {
                self.generations += generation;
                self.hear();
                break;
            }
            // One that something is wrong with already is not waited for as long.
            let patience = if self.violations.is_empty() { LAST_MAX } else { PROGRESS_MAX };
            if matches!(status.as_str(), "FAILED" | "STOPPED") || begun.elapsed() > patience + self.workload.lasts() {
                self.violations.push(format!("the job is {status} and was to end; what is there is not reconciled"));
                return Ok(());
            }
            self.pass(ASK_EVERY)?;
        }
        let (found, last) = self.watch.finish_twice(&self.workload, &self.workload.place.sinks)?;
        self.violations.extend(last);
        self.found.add(found);
        self.violations.extend(audit(&self.members, JOB));
        Ok(())
    }

    /// What must hold in the end, beside what the reader finds.
    fn judge(&mut self) -> Result<()> {
        self.hear();
        if self.violations.is_empty() {
            let found = self.operator.settle(&self.members)?;
            self.violations.extend(found);
        }
        for node in 0..NODES {
            let server = self.members.server(node)?;
            server.weigh();
            let (peak, said) = (server.peak(), server.said()?);
            if peak > MEMORY_MAX {
                self.violations.push(format!("{} has had {} MiB of memory", name(node), peak >> 20));
            }
            let felt: Vec<FaultKind> = self.felt.get(&node).into_iter().flatten().copied().collect();
            self.violations.extend(logs::unlisted(&name(node), &said, &felt));
        }
        self.violations.dedup();
        self.violations.truncate(VIOLATIONS_MAX);
        Ok(())
    }

    fn look(&mut self) -> Result<()> {
        self.looks += 1;
        let found = self.watch.observe().context("look at the output")?;
        self.violations.extend(found);
        self.violations.truncate(VIOLATIONS_MAX);
        Ok(())
    }

    /// Ends a node and starts it again after a while.
    pub(super) fn bounce(&mut self, node: usize, signal: Signal, away: Duration) -> Result<()> {
        self.members.end(node, signal)?;
        self.pass(away)?;
        self.members.begin(node)
    }

    /// A coordinator takes part again, or that is wrong.
    pub(super) fn takes_part(&mut self, node: usize) -> Result<()> {
        if node < COORDINATORS && !self.until(PROGRESS_MAX, |trial| trial.members.takes_part(node))? {
            self.violations.push(format!("{} takes no part after {PROGRESS_MAX:?}", name(node)));
        }
        Ok(())
    }
}
