//! What can happen next: for a search that leaves nothing out.

use qanat_coordinator_core::state::JobStatus;

use super::{Action, World};
use crate::model::job::JOB;
use crate::model::small::Budget;

impl World {
    /// Everything by which work goes on and that would change something.
    pub(in crate::model) fn progress(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        let is_at_rest = |member: usize| self.members[member].leading.as_ref().is_some_and(|l| l.is_at_rest());
        actions.extend((0..self.receivers().len()).map(Action::Receive));
        let heard =
            self.speakers().into_iter().enumerate().filter(|(_, session)| is_at_rest(self.sessions[*session].member));
        actions.extend(heard.map(|(which, _)| Action::Hear(which)));
        let members = self.members.iter().enumerate().filter_map(|(at, m)| m.leading.as_ref().map(|l| (at, l)));
        for (member, leading) in members {
            if leading.has_io() {
                actions.push(Action::Store(member));
            }
            // Those that do not lead any more find out; those that are gone are given up.
            if self.leader != Some(member) {
                actions.push(Action::Learn(member));
            }
            let lost = leading.known.iter().enumerate().filter(|(_, (start, known))| {
                let is_alive = self.hosts[known.host].as_ref().is_some_and(|process| process.start == **start);
                !known.is_attached && !is_alive && leading.is_at_rest()
            });
            actions.extend(lost.map(|(which, _)| Action::Expire(member, which)));
            if leading.has_given_up && !actions.contains(&Action::LeadAgain) {
                actions.push(Action::LeadAgain);
            }
            if leading.proposed.is_some() && !actions.contains(&Action::Decide) {
                actions.push(Action::Decide);
            }
            // Time goes on to whatever is due next.
            if let Some(at) = leading.wake_at().filter(|at| leading.is_at_rest() && *at > self.now) {
                actions.push(Action::Time(at - self.now));
            }
        }
        for (host, process) in self.hosts.iter().enumerate() {
            let Some(process) = process else {
                actions.push(Action::Start(host));
                continue;
            };
            actions
                .extend(process.readable(&self.heads).into_iter().map(|(at, split)| Action::Read(host, at, split, 1)));
            actions.extend((0..process.flows(&self.wires)).map(|which| Action::Flow(host, which)));
            if process.has_work() {
                actions.push(Action::Work(host));
            }
            if !self.sessions.iter().any(|session| session.start == process.start) {
                let led = (0..self.members.len()).filter(|member| self.members[*member].leading.is_some());
                let ready = led.enumerate().filter(|(_, member)| is_at_rest(*member));
                actions.extend(ready.map(|(which, _)| Action::Attach(host, which)));
            }
            if self.gone_beside(host).is_some() {
                actions.push(Action::Notice(host));
            }
        }
        actions
    }

    /// The number of the newest claim there ever was.
    pub(in crate::model) fn epochs(&self) -> u64 {
        self.truth.job(JOB).map_or(0, |job| job.highest_epoch().0)
    }

    /// Everything that may go wrong, of what there is left to go wrong.
    pub(in crate::model) fn faults(&self, left: &Budget) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.has_finished() {
            return actions;
        }
        if left.deaths > 0 {
            actions.extend((0..self.hosts.len()).filter(|host| self.hosts[*host].is_some()).map(Action::Kill));
        }
        if left.elections > 0 {
            let proposes = self.leader.is_some_and(|leader| {
                self.members[leader].leading.as_ref().is_some_and(|leading| leading.proposed.is_some())
            });
            for member in 0..self.members.len() {
                actions.push(Action::Elect(member, false));
                actions.extend(proposes.then_some(Action::Elect(member, true)));
            }
        }
        if left.breaks > 0 {
            let sessions = 0..self.sessions.len();
            actions.extend(sessions.flat_map(|session| [Action::Break(session, false), Action::Break(session, true)]));
        }
        if left.repeats > 0 {
            actions.extend((0..self.old_down.len()).map(|which| Action::RepeatDown(4 * which)));
            actions.extend((0..self.old_up.len()).map(Action::RepeatUp));
        }
        if left.rollbacks > 0 {
            actions.extend((0..self.truth.jobs[&JOB].claims.len()).map(Action::Rollback));
        }
        actions
    }

    pub(in crate::model) fn has_finished(&self) -> bool {
        let job = &self.truth.jobs[&JOB];
        job.status == JobStatus::Finished && job.withdrawing.is_empty()
    }

    /// All of it that matters for what may still happen, as text. `repeats`: old messages may come again.
    pub(in crate::model) fn essence(&self, repeats: bool) -> String {
        let old = repeats.then_some((&self.old_down, &self.old_up));
        let Self { now, leader, members, hosts, sessions, wires, store, folder, truth, undecided, .. } = self;
        format!(
            "{now} {leader:?} {members:?} {hosts:?} {sessions:?} {wires:?} {store:?} {folder:?} {truth:?} {undecided:?} {old:?}"
        )
    }
}
