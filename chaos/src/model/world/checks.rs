//! What must hold at every moment, and once the faults have ended.

use std::collections::{BTreeMap, BTreeSet};

use qanat_coordinator_core::retention::{TopicStart, lowest_starts};
use qanat_coordinator_core::state::JobStatus;
use qanat_proto::manifest::Manifest;
use qanat_proto::names::Origin;

use super::{Action, OTHER, TOPIC, TOPIC_ID, World, topic_starts};
use crate::model::dataflow::{Counts, state_object};
use crate::model::executor::Process;
use crate::model::job::{JOB, group_of, record};
use crate::model::walk::{Outcome, Violation};

impl World {
    /// I2: everything visible is claimed and not withdrawn, and no record is there twice (I1).
    pub(super) fn check_folder(&self) -> Outcome {
        let job = &self.truth.jobs[&JOB];
        let mut seen = BTreeSet::new();
        for (name, rows) in &self.folder.visible {
            if !self.claimed.contains(name) {
                return Err(Violation(format!("I2: `{name}` is visible and was never claimed")));
            }
            let epoch = Origin::parse_object(name).map(|(origin, _)| origin.epoch);
            if epoch.is_some_and(|epoch| job.is_withdrawn(epoch)) && job.withdrawing.is_empty() {
                return Err(Violation(format!("P10: `{name}` is visible and was withdrawn")));
            }
            if let Some(row) = rows.iter().find(|row| !seen.insert(**row)) {
                return Err(Violation(format!("I1: record {row:x} is visible twice, in `{name}` again")));
            }
        }
        Ok(())
    }

    /// A generation reads nothing before the commit that it replays (P5), and what it takes back (P10), are recorded.
    pub(super) fn check_may_read(&self, host: usize) -> Outcome {
        let job = &self.truth.jobs[&JOB];
        let works = self.hosts[host % self.hosts.len()].as_ref().and_then(Process::works);
        if works.is_none_or(|token| token.generation != job.generation || !job.generation_open) {
            return Ok(());
        }
        if !job.withdrawing.is_empty() {
            return Err(Violation("P10: rows flow before a rollback has taken back what it names".to_owned()));
        }
        let (epoch, claim) = (job.restore_point, job.claims.get(&job.restore_point));
        match claim.filter(|claim| !claim.committed) {
            Some(_) => Err(Violation(format!("P5: rows flow before the commit of epoch {epoch} is replayed"))),
            None => Ok(()),
        }
    }

    /// P7: whoever hears that a job has ended finds everything that it claimed.
    pub(super) fn check_end_of_job(&self, was_ended: bool) -> Outcome {
        let job = &self.truth.jobs[&JOB];
        let Some((epoch, claim)) = job.last_claim().filter(|_| job.status.is_ended() && !was_ended) else {
            return Ok(());
        };
        match claim.handles.iter().find(|handle| !self.folder.visible.contains_key(&handle.name)) {
            Some(handle) => {
                Err(Violation(format!("P7: the job has ended, and `{}` of epoch {epoch} is not visible", handle.name)))
            }
            None => Ok(()),
        }
    }

    /// I1 and I12: once the last claim is recorded as committed, what is visible and what the state counts is the
    /// prefix that its manifest covers.
    pub(super) fn check_prefix(&self) -> Outcome {
        self.check_folder()?;
        let job = &self.truth.jobs[&JOB];
        let Some((epoch, claim)) = job.last_claim().filter(|(_, claim)| claim.committed) else { return Ok(()) };
        if !job.withdrawing.is_empty() {
            return Ok(());
        }
        let Some(manifest) = self.store.manifests.get(&claim.manifest_key) else {
            return Err(Violation(format!("I17: the manifest of epoch {epoch} is gone")));
        };
        let expected = self.prefix(manifest);
        let visible: BTreeSet<u64> = self.folder.visible.values().flatten().copied().collect();
        if let Some(row) = expected.difference(&visible).next() {
            return Err(Violation(format!("I1: epoch {epoch} covers record {row:x}, which is not visible")));
        }
        if let Some(row) = visible.difference(&expected).next() {
            return Err(Violation(format!("I1: record {row:x} is visible, and epoch {epoch} does not cover it")));
        }
        let mut counts = Counts::new();
        expected.iter().for_each(|row| *counts.entry(group_of(*row, manifest.key_groups)).or_default() += 1);
        let mut saved = Counts::new();
        for file in manifest.operators.iter().flat_map(|o| &o.tables).flat_map(|table| &table.files) {
            let Some(object) = self.store.objects.get(&file.object) else {
                return Err(Violation(format!("I17: `{}` of epoch {epoch} is gone", file.object)));
            };
            let range = file.key_groups.start..file.key_groups.end;
            saved.extend(object.range(range).map(|(group, count)| (*group, *count)));
        }
        if saved != counts {
            return Err(Violation(format!(
                "I12: the state of epoch {epoch} counts {saved:?}, its rows are {counts:?}"
            )));
        }
        Ok(())
    }

    /// I17 and P14: what each claim that may be restored needs is there, and each savepoint is one of them. P6: what is
    /// another job's is, too.
    pub(super) fn check_claims(&self) -> Outcome {
        let (staged, object) = (OTHER.object(0), state_object(&OTHER));
        if !self.folder.staged.contains_key(&staged) || !self.store.objects.contains_key(&object) {
            return Err(Violation("P6: what another job wrote is gone".to_owned()));
        }
        let job = &self.truth.jobs[&JOB];
        for (epoch, claim) in &job.claims {
            let Some(manifest) = self.store.manifests.get(&claim.manifest_key) else {
                return Err(Violation(format!("I17: the manifest of epoch {epoch} is gone")));
            };
            let mut files = manifest.operators.iter().flat_map(|o| &o.tables).flat_map(|table| &table.files);
            if let Some(file) = files.find(|file| !self.store.objects.contains_key(&file.object)) {
                return Err(Violation(format!("I17: `{}` of epoch {epoch} is gone", file.object)));
            }
        }
        match job.savepoints.iter().find(|(_, savepoint)| !job.claims.contains_key(&savepoint.epoch)) {
            Some((name, savepoint)) => {
                Err(Violation(format!("P14: savepoint `{name}` is of epoch {}, which is retired", savepoint.epoch)))
            }
            None => Ok(()),
        }
    }

    /// The lowest offsets that an epoch needs which may be restored, as the leader knows them (P15).
    pub(super) fn plan_cut(&mut self) {
        let Some(leader) = self.leader else { return };
        let state = &self.members[leader].state;
        let starts: BTreeMap<&str, Vec<TopicStart>> = self
            .store
            .manifests
            .iter()
            .map(|(key, manifest)| (key.as_str(), topic_starts(&positions(manifest))))
            .collect();
        let topics = BTreeMap::from([(TOPIC.to_owned(), TOPIC_ID)]);
        let lowest = lowest_starts(state, &topics, |claim| starts.get(claim.manifest_key.as_str()).map(Vec::as_slice));
        if let Some(offsets) = lowest.and_then(|mut lowest| lowest.remove(TOPIC)) {
            self.planned = Some((offsets.into_values().collect(), state.applied));
        }
    }

    /// The records that a manifest covers.
    pub(super) fn prefix(&self, manifest: &Manifest) -> BTreeSet<u64> {
        let positions = positions(manifest);
        let splits = self.begun.iter().zip(positions).enumerate();
        splits
            .flat_map(|(split, (begun, position))| (*begun..position).map(move |offset| record(split, offset)))
            .collect()
    }

    /// The faults end: within a bound the job finishes, with every record visible once (I15, I1).
    pub(super) fn end_faults(&mut self) -> Outcome {
        let begun = self.now;
        self.healing = Some(begun);
        self.heads.fill(self.shape.records);
        // A pause to recover may take 30 s, and a commit of a slow sink 9 s, for each of some epochs.
        while self.now < begun + 240_000 {
            if *self.status() == JobStatus::Finished && self.truth.jobs[&JOB].withdrawing.is_empty() {
                return self.check_end();
            }
            self.heal_once()?;
        }
        let job = &self.truth.jobs[&JOB];
        let last = job.last_claim().map(|(epoch, _)| epoch);
        Err(Violation(format!("I15: the job is still {}, at {last:?}", job.status.name())))
    }

    pub(super) fn heal_once(&mut self) -> Outcome {
        if self.leader.is_none() {
            self.elect(0, true)?;
        }
        let leader = self.leader.unwrap_or(0);
        self.lead_again()?;
        if let Some(start) = self.truth.draining.first().copied() {
            self.drain(start, true)?;
        }
        for member in (0..self.members.len()).filter(|member| *member != leader) {
            self.stand_down(member);
        }
        for host in 0..self.hosts.len() {
            if self.hosts[host].is_none() {
                self.start(host);
            }
            self.act(Action::Notice(host))?;
            self.attach(host, 0)?;
        }
        let gone = self.members[leader].leading.as_ref().and_then(|l| l.known.values().position(|k| !k.is_attached));
        if let Some(gone) = gone {
            self.expire(leader, gone)?;
        }
        for _ in 0..6 {
            self.receive(0)?;
            self.hear(0)?;
            self.decide_next()?;
            self.perform(leader)?;
        }
        let may_work = self.now >= self.work_after;
        for host in 0..self.hosts.len() {
            for which in 0..9 {
                self.act(Action::Read(host, which % 3, which / 3, 1))?;
                self.act(Action::Flow(host, which))?;
            }
            if may_work {
                self.act(Action::Work(host))?;
            }
        }
        if may_work {
            self.work_after = self.now + self.shape.commit_step_ms;
        }
        if matches!(self.status(), JobStatus::Stopped | JobStatus::Failed { .. }) {
            self.act(Action::Resume)?;
        }
        self.pass(self.until_due())
    }

    /// Milliseconds of the next step in time: with nothing to be done, up to what is due first.
    fn until_due(&self) -> u64 {
        const STEP: u64 = 40;
        let mut due = u64::MAX;
        for action in self.progress() {
            due = match action {
                Action::Time(ms) => due.min(ms),
                Action::Work(_) if self.now < self.work_after => due.min(self.work_after - self.now),
                _ => return STEP,
            };
        }
        if due == u64::MAX { STEP } else { due.max(STEP) }
    }

    pub(super) fn check_end(&self) -> Outcome {
        self.check_prefix()?;
        let visible: BTreeSet<u64> = self.folder.visible.values().flatten().copied().collect();
        let splits = self.begun.iter().enumerate();
        let records = splits.flat_map(|(split, begun)| (*begun..self.shape.records).map(move |o| record(split, o)));
        match records.into_iter().find(|row| !visible.contains(row)) {
            Some(row) => Err(Violation(format!("I1: the job has finished and record {row:x} is not there"))),
            None => Ok(()),
        }
    }
}

/// Where an epoch stands in each split.
pub(super) fn positions(manifest: &Manifest) -> Vec<u64> {
    let splits = manifest.sources.iter().flat_map(|source| &source.splits);
    splits.map(|split| split.position.as_u64().unwrap_or(0)).collect()
}
