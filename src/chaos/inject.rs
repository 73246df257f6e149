//! One fault, from its beginning to where its cause is gone.

use std::time::Duration;

use qanat_client::ClusterStatus;
use qanat_proto::rpc::identity::NodeRole;
use qanat_proto::{Code, Error};
use rustix::process::Signal;

use crate::chaos::kind::Kind;
use crate::chaos::plan::Fault;
use crate::chaos::subject::Subject;
use crate::chaos::trial::{ENDS_WITHIN, LOOK_EVERY, Stop, Trial, refusal};

/// Why a fault cannot be done to this cluster; None: it was done.
type Impossible = Option<String>;

impl Trial {
    /// Does one fault. What it takes away is back when this returns, and need not take part yet.
    ///
    /// # Errors
    /// If the campaign cannot go on.
    pub(super) async fn inject(&mut self, fault: Fault) -> Result<Impossible, Stop> {
        match fault.kind {
            Kind::KillExecutor | Kind::PauseExecutor => self.executor(fault).await,
            Kind::KillLeader | Kind::PauseLeader | Kind::KillFollower => self.coordinator(fault).await,
            Kind::Restart => self.restart(fault).await,
            Kind::Drain => self.drain(fault).await,
            Kind::Rescale => self.rescale(fault).await,
            Kind::Savepoint => self.savepoint(fault).await,
        }
    }

    async fn status(&self) -> Result<ClusterStatus, Stop> {
        self.client.status().await.map_err(|error| Stop::Broken(format!("nobody leads: {error}")))
    }

    /// The nodes of a role, by their place.
    fn places(&self, role: NodeRole) -> Vec<usize> {
        let nodes = self.nodes.iter().enumerate();
        nodes.filter(|(_, node)| node.identity.role == role).map(|(index, _)| index).collect()
    }

    /// The executors here. Those that jobs run on are hit more often than idle ones, which nobody misses.
    fn executors(&self, status: &ClusterStatus, which: u64) -> Vec<usize> {
        const IDLE_ONE_IN: u64 = 4;
        let all = self.places(NodeRole::Executor);
        let works = |index: &usize| {
            let name = self.nodes.get(*index).map(|node| node.identity.name.as_str());
            status.executors.iter().any(|known| Some(known.node.as_str()) == name && !known.jobs.is_empty())
        };
        let busy: Vec<usize> = all.iter().copied().filter(works).collect();
        let takes_any = busy.is_empty() || (which >> 32).is_multiple_of(IDLE_ONE_IN);
        if takes_any { all } else { busy }
    }

    async fn executor(&mut self, fault: Fault) -> Result<Impossible, Stop> {
        let status = self.status().await?;
        let Some(index) = pick(&self.executors(&status, fault.which), fault.which) else {
            return Ok(Some("no executor runs on this machine".to_owned()));
        };
        self.hit(index, fault, &status).await
    }

    async fn coordinator(&mut self, fault: Fault) -> Result<Impossible, Stop> {
        let status = self.status().await?;
        if let Some(why) = keeps_majority(&status) {
            return Ok(Some(why));
        }
        let leader = status.coordinators.iter().find(|known| known.leads).map(|known| known.id.to_string());
        let mut places = self.places(NodeRole::Coordinator);
        let leads = |index: &usize| self.nodes.get(*index).map(|node| &node.identity.name) == leader.as_ref();
        places.retain(|index| leads(index) == (fault.kind != Kind::KillFollower));
        match pick(&places, fault.which) {
            Some(index) => self.hit(index, fault, &status).await,
            // Another one may lead the next time; but who is not here now is seldom here then.
            None => Ok(Some("the coordinator that it would be done to is not on this machine".to_owned())),
        }
    }

    async fn restart(&mut self, fault: Fault) -> Result<Impossible, Stop> {
        let status = self.status().await?;
        let mut places = self.places(NodeRole::Executor);
        if keeps_majority(&status).is_none() {
            places.extend(self.places(NodeRole::Coordinator));
        }
        match pick(&places, fault.which) {
            Some(index) => self.hit(index, fault, &status).await,
            None => Ok(Some("no node can be restarted".to_owned())),
        }
    }

    /// Kills, pauses or restarts one process.
    async fn hit(&mut self, index: usize, fault: Fault, status: &ClusterStatus) -> Result<Impossible, Stop> {
        let Some(node) = self.nodes.get_mut(index) else { return Ok(Some("there is no such node".to_owned())) };
        let identity = node.identity.clone();
        self.tell(fault.kind, &identity.to_string());
        let lost = |error: Error| Stop::Lost(format!("{}: {identity}: {error}", fault.kind));
        let Some(node) = self.nodes.get_mut(index) else { return Ok(None) };
        let signal = match fault.kind {
            Kind::PauseExecutor | Kind::PauseLeader => {
                node.pause().map_err(lost)?;
                tokio::time::sleep(fault.lasts).await;
                return node.bring_back().map(|()| None).map_err(lost);
            }
            Kind::Restart => Signal::TERM,
            Kind::KillExecutor
            | Kind::KillLeader
            | Kind::KillFollower
            | Kind::Drain
            | Kind::Rescale
            | Kind::Savepoint => Signal::KILL,
        };
        node.end(signal).map_err(lost)?;
        self.expect_back(&identity, status);
        self.until_gone(index).await?;
        tokio::time::sleep(fault.lasts).await;
        // A service manager may have been faster. Without a leader nobody knows; a second start finds out.
        if let Ok(status) = self.asking().status().await
            && self.adopt(index, &status)
        {
            return Ok(None);
        }
        let Some(node) = self.nodes.get_mut(index) else { return Ok(None) };
        node.bring_back().map(|()| None).map_err(lost)
    }

    async fn until_gone(&mut self, index: usize) -> Result<(), Stop> {
        let deadline = self.now() + ENDS_WITHIN;
        loop {
            let now = self.now();
            let Some(node) = self.nodes.get_mut(index) else { return Ok(()) };
            if node.is_gone() {
                return Ok(());
            }
            if now > deadline {
                // It is started again at the end, for which it has to go.
                let _ = node.end(Signal::KILL);
                return Err(Stop::Broken(format!("{} does not end when it is asked to", node.identity)));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn drain(&mut self, fault: Fault) -> Result<Impossible, Stop> {
        let status = self.status().await?;
        let takes_work = status.executors.iter().filter(|known| known.attached && !known.draining).count();
        if takes_work < 2 {
            return Ok(Some("there is no second executor that could take over the work".to_owned()));
        }
        let Some(index) = pick(&self.executors(&status, fault.which), fault.which) else {
            return Ok(Some("no executor runs on this machine".to_owned()));
        };
        let Some(node) = self.nodes.get(index).map(|node| node.identity.name.clone()) else { return Ok(None) };
        self.tell(fault.kind, &format!("executor {node}"));
        // Noted before it is asked for: an answer that is lost may have been a yes.
        self.drained = Some(node.clone());
        if let Err(error) = self.client.drain(&node, false).await {
            let refused = refusal(&error)?;
            self.drained = None;
            return Ok(Some(refused));
        }
        let deadline = self.now() + self.options.within;
        while self.has_work(&node).await {
            if self.now() > deadline {
                return Err(Stop::Broken(format!(
                    "executor {node} still has work, {} after it was drained",
                    self.patience()
                )));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        tokio::time::sleep(fault.lasts).await;
        self.client.drain(&node, true).await.map_err(|error| Stop::Broken(format!("executor {node}: {error}")))?;
        self.drained = None;
        Ok(None)
    }

    async fn has_work(&self, node: &str) -> bool {
        let status = self.asking().status().await;
        // Who does not answer does not say that it has none.
        !status.is_ok_and(|status| status.executors.iter().all(|known| known.node != node || known.jobs.is_empty()))
    }

    /// One of the jobs that run.
    async fn running(&mut self, which: u64) -> Result<Option<&mut Subject>, Stop> {
        let mut places = Vec::new();
        for (index, subject) in self.subjects.iter_mut().enumerate().filter(|(_, subject)| !subject.has_ended()) {
            let looked = subject.look(&self.client).await;
            looked.map_err(|error| Stop::Broken(format!("{}: {error}", subject.name)))?;
            if !subject.has_ended() {
                places.push(index);
            }
        }
        Ok(pick(&places, which).and_then(|index| self.subjects.get_mut(index)))
    }

    async fn rescale(&mut self, fault: Fault) -> Result<Impossible, Stop> {
        let client = self.client.clone();
        let Some(subject) = self.running(fault.which).await? else { return Ok(Some(NO_JOB.to_owned())) };
        let (id, name, tries) = (subject.id.clone(), subject.name.clone(), subject.others(fault.which));
        let mut refused = NO_JOB.to_owned();
        for parallelism in tries {
            match client.rescale(&id, parallelism).await {
                Ok(_) => {
                    self.tell(fault.kind, &format!("{name} to {parallelism}"));
                    return self.until_rescaled(&id, parallelism).await.map(|()| None);
                }
                Err(error) => refused = refusal(&error)?,
            }
        }
        Ok(Some(refused))
    }

    async fn until_rescaled(&mut self, id: &str, parallelism: u32) -> Result<(), Stop> {
        let deadline = self.now() + self.options.within;
        loop {
            let job = self.asking().describe(id).await;
            let (now, patience) = (self.now(), self.patience());
            let Some(subject) = self.subjects.iter_mut().find(|subject| subject.id == id) else { return Ok(()) };
            if let Ok(job) = job {
                subject.last = job;
            }
            if subject.last.parallelism == parallelism || subject.has_ended() {
                return Ok(());
            }
            if now > deadline {
                let name = &subject.name;
                return Err(Stop::Broken(format!(
                    "{name}: it has not {parallelism} subtasks, {patience} after the rescale"
                )));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn savepoint(&mut self, fault: Fault) -> Result<Impossible, Stop> {
        let client = self.client.clone();
        // Drawn anew: a seed that is tried again finds the names of before.
        let name = format!("chaos-{:08x}", self.env.entropy.u64() >> 32);
        let Some(subject) = self.running(fault.which).await? else { return Ok(Some(NO_JOB.to_owned())) };
        let (id, job) = (subject.id.clone(), subject.name.clone());
        self.tell(fault.kind, &format!("{name} of {job}"));
        self.named = Some((id.clone(), name.clone()));
        let made = client.savepoint(&id, &name).await;
        if let Err(error) = made {
            return refusal(&error).map(Some);
        }
        let deadline = self.now() + self.options.within;
        loop {
            let listed = self.asking().savepoints(&id).await;
            let is_made = |listed: &qanat_client::SavepointsResponse| {
                listed.savepoints.iter().any(|known| known.name == name && !known.pending)
            };
            if listed.as_ref().is_ok_and(is_made) {
                break;
            }
            if self.now() > deadline {
                return Err(Stop::Broken(format!("{job}: savepoint {name} has no epoch after {}", self.patience())));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        match client.drop_savepoint(&id, &name).await {
            // One that was pending when its job ended is gone with that.
            Err(error) if error.code() != Code::NotRestorable => Err(Stop::Broken(format!("{job}: {error}"))),
            _ => {
                self.named = None;
                Ok(None)
            }
        }
    }
}

const NO_JOB: &str = "no job runs to which it could be done";

fn pick(places: &[usize], which: u64) -> Option<usize> {
    let count = u64::try_from(places.len()).ok().filter(|count| *count > 0)?;
    places.get(usize::try_from(which % count).ok()?).copied()
}

/// Why no coordinator may go: without it the others would be no majority. None: one may.
fn keeps_majority(status: &ClusterStatus) -> Option<String> {
    let voters = status.coordinators.iter().filter(|known| known.votes).count();
    let up = status.coordinators.iter().filter(|known| known.votes && !known.down).count();
    let is_enough = up > voters / 2 + 1;
    (!is_enough).then(|| format!("{up} of {voters} coordinators are up: without one they would be no majority"))
}

#[cfg(test)]
mod tests {
    use qanat_client::Coordinator;

    use super::*;

    #[test]
    fn a_majority_stays() {
        let group = |up: u64, down: u64| {
            let known = |id, down| Coordinator { id, votes: true, down, ..Coordinator::default() };
            let coordinators = (0..up).map(|id| known(id, false)).chain((up..up + down).map(|id| known(id, true)));
            keeps_majority(&ClusterStatus { coordinators: coordinators.collect(), ..ClusterStatus::default() })
        };
        assert!(group(3, 0).is_none() && group(5, 0).is_none() && group(4, 1).is_none());
        for (up, down) in [(1, 0), (2, 0), (2, 1), (3, 2), (4, 0)] {
            let may_go = up == 4;
            assert_eq!(group(up, down).is_none(), may_go, "{up} up, {down} down");
        }
    }

    #[test]
    fn any_of_them_is_picked() {
        assert_eq!(pick(&[], 3), None);
        assert_eq!([0, 1, 5].map(|which| pick(&[4, 9], which)), [Some(4), Some(9), Some(9)]);
    }
}
