//! Connections and processes: what comes and goes, and what is heard.

use std::collections::VecDeque;

use qanat_coordinator_core::job::Input;
use qanat_proto::Code;
use qanat_proto::control::{ExecutorMessage, ToExecutor};
use qanat_proto::ids::{Generation, StartId};

use super::{Session, World, keep};
use crate::model::coordinator::{Known, Leading, Member};
use crate::model::executor::{Process, Shared};
use crate::model::job::JOB;
use crate::model::walk::{Outcome, Violation};

impl World {
    pub(super) fn host_of(&self, start: StartId) -> usize {
        // Start ids carry their host.
        usize::try_from(start.0 % 16).unwrap_or(0)
    }

    pub(super) fn attach(&mut self, host: usize, which: usize) -> Outcome {
        let host = host % self.hosts.len();
        let Some(process) = &mut self.hosts[host] else { return Ok(()) };
        let start = process.start;
        if self.sessions.iter().any(|session| session.start == start) {
            return Ok(());
        }
        let led: Vec<usize> = (0..self.members.len()).filter(|m| self.members[*m].leading.is_some()).collect();
        let Some(member) = led.get(which % led.len().max(1)).copied() else { return Ok(()) };
        let Member { state, leading, .. } = &mut self.members[member];
        let Some(leading) = leading.as_mut().filter(|leading| leading.is_at_rest()) else { return Ok(()) };
        // What was said before belongs to the leader that is gone.
        process.outbox.clear();
        leading.known.retain(|known, at| at.host != host || *known == start);
        leading.known.insert(start, Known { host, is_attached: true });
        let leftovers = Leading::leftovers(state, start, &process.holds());
        leading.tell_executors(state, Some(start));
        self.sessions.push(Session { member, host, start, up: VecDeque::new(), down: VecDeque::new() });
        for token in leftovers {
            self.send(member, ToExecutor { start, token, message: ExecutorMessage::Stop });
        }
        self.pump(member);
        Ok(())
    }

    pub(super) fn cut_session(&mut self, which: usize, received: bool) {
        let session = self.sessions.remove(which);
        if let Some(leading) = &mut self.members[session.member].leading
            && let Some(known) = leading.known.get_mut(&session.start)
        {
            known.is_attached = false;
        }
        if let Some(process) = self.hosts[session.host].as_mut().filter(|process| process.start == session.start)
            && received
        {
            process.inbox.extend(session.down);
        }
    }

    pub(super) fn cut_sessions_of(&mut self, member: usize) {
        while let Some(which) = self.sessions.iter().position(|session| session.member == member) {
            self.cut_session(which, false);
        }
    }

    pub(super) fn expire(&mut self, member: usize, which: usize) -> Outcome {
        let member = member % self.members.len();
        let Some(leading) = self.members[member].leading.as_ref().filter(|leading| leading.is_at_rest()) else {
            return Ok(());
        };
        let Some(start) = leading.known.keys().nth(which % leading.known.len().max(1)).copied() else { return Ok(()) };
        // One that lives finds its connection ended.
        if let Some(session) = self.sessions.iter().position(|s| s.member == member && s.start == start) {
            self.cut_session(session, true);
        }
        let Member { state, leading, .. } = &mut self.members[member];
        let Some(leading) = leading else { return Ok(()) };
        leading.known.remove(&start);
        leading.tell_executors(state, None);
        self.pump(member);
        Ok(())
    }

    /// Processes that have something to receive.
    pub(super) fn receivers(&self) -> Vec<usize> {
        let has_any = |host: &usize| {
            self.hosts[*host].as_ref().is_some_and(|process| {
                let has_sent = |s: &Session| s.start == process.start && !s.down.is_empty();
                !process.inbox.is_empty() || self.sessions.iter().any(has_sent)
            })
        };
        (0..self.hosts.len()).filter(has_any).collect()
    }

    /// Sessions on which something waits to be heard.
    pub(super) fn speakers(&self) -> Vec<usize> {
        (0..self.sessions.len()).filter(|session| !self.sessions[*session].up.is_empty()).collect()
    }

    pub(super) fn receive(&mut self, which: usize) -> Outcome {
        let waiting = self.receivers();
        let Some(host) = waiting.get(which % waiting.len().max(1)).copied() else { return Ok(()) };
        let Some(process) = &mut self.hosts[host] else { return Ok(()) };
        let start = process.start;
        let next = process.inbox.pop_front().or_else(|| {
            let mut sessions = self.sessions.iter_mut().filter(|session| session.start == start);
            sessions.find_map(|session| session.down.pop_front())
        });
        if let Some(message) = next {
            self.run(host, |process, shared| process.take(&message, shared))?;
            self.check_folder()?;
        }
        Ok(())
    }

    pub(super) fn hear(&mut self, which: usize) -> Outcome {
        let waiting = self.speakers();
        let Some(session) = waiting.get(which % waiting.len().max(1)).copied() else { return Ok(()) };
        let member = self.sessions[session].member;
        if !self.members[member].leading.as_ref().is_some_and(Leading::is_at_rest) {
            return Ok(());
        }
        let Some(message) = self.sessions[session].up.pop_front() else { return Ok(()) };
        self.tell(member, Input::FromExecutor(message))
    }

    pub(super) fn start(&mut self, host: usize) {
        let host = host % self.hosts.len();
        self.starts += 1;
        self.hosts[host] = Some(Process::new(StartId(self.starts * 16 + host as u64)));
    }

    pub(super) fn kill(&mut self, host: usize) {
        let host = host % self.hosts.len();
        let Some(process) = self.hosts[host].take() else { return };
        self.seen.fenced += process.fenced;
        while let Some(which) = self.sessions.iter().position(|session| session.start == process.start) {
            self.cut_session(which, false);
        }
    }

    /// A process does something; what it says goes to its leader.
    pub(super) fn run(
        &mut self,
        host: usize,
        act: impl FnOnce(&mut Process, &mut Shared<'_>) -> Result<(), String>,
    ) -> Outcome {
        let host = host % self.hosts.len();
        let Some(process) = &mut self.hosts[host] else { return Ok(()) };
        let Self { store, folder, wires, .. } = self;
        let Self { heads, gone, .. } = self;
        let newest = self.truth.job(JOB).map_or(Generation(0), |job| job.generation);
        let mut shared = Shared { store, folder, wires, heads, gone, records: self.shape.records, newest };
        act(process, &mut shared).map_err(Violation)?;
        let start = process.start;
        let said = std::mem::take(&mut process.outbox);
        let mut session = self.sessions.iter_mut().find(|session| session.start == start);
        for message in said {
            keep(&mut self.old_up, &mut self.kept, message.clone());
            // Without a connection it is lost, and asked for again by the next leader.
            if let Some(session) = &mut session {
                session.up.push_back(message);
            }
        }
        Ok(())
    }

    pub(super) fn cut_link(&mut self, host: usize) -> Outcome {
        let host = host % self.hosts.len();
        let Some(generation) = self.hosts[host].as_ref().and_then(|process| process.generation.as_ref()) else {
            return Ok(());
        };
        let Some(other) = generation.hosts.iter().map(|start| self.host_of(*start)).find(|other| *other != host) else {
            return Ok(());
        };
        for (one, other) in [(host, other), (other, host)] {
            self.run(one, |process, _| {
                process.fail(Code::LinkBroken, &format!("host-{other}"));
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Another process of this one's generation that is gone, or has ended it, if this one does not know yet.
    pub(super) fn gone_beside(&self, host: usize) -> Option<usize> {
        let generation = self.hosts[host].as_ref()?.generation.as_ref().filter(|generation| !generation.has_failed)?;
        let is_gone = |start: &&StartId| {
            let process = self.hosts[self.host_of(**start)].as_ref().filter(|process| process.start == **start);
            process.is_none_or(|process| {
                let has_it = process.generation.as_ref().is_some_and(|other| other.token == generation.token);
                !has_it && process.holds().iter().any(|token| *token >= generation.token)
            })
        };
        generation.hosts.iter().find(is_gone).map(|start| self.host_of(*start))
    }

    pub(super) fn notice(&mut self, host: usize) -> Outcome {
        let host = host % self.hosts.len();
        let Some(gone) = self.gone_beside(host) else { return Ok(()) };
        self.run(host, |process, _| {
            process.fail(Code::LinkBroken, &format!("host-{gone}"));
            Ok(())
        })
    }
}
