//! The world of the model: what is there, what may happen next, and what must never be seen.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use qanat_coordinator_core::apply::Applied;
use qanat_coordinator_core::command::{self, Command, JobTopics, Refusal, RunWith};
use qanat_coordinator_core::job::Input;
use qanat_coordinator_core::retention::{TopicCut, TopicStart};
use qanat_coordinator_core::state::{JobStatus, State};
use qanat_proto::Code;
use qanat_proto::control::{ExecutorMessage, FromExecutor, ToExecutor, WithdrawnObjects};
use qanat_proto::ids::{Epoch, Generation, JobId, StartId, SubtaskId, Token};
use qanat_proto::names::Origin;
use qanat_proto::settings::JobSettings;
use qanat_storage::checkpoint::ManifestKey;

use super::coordinator::{Known, Leading, Member};
use super::dataflow::{Counts, Element, state_object};
use super::executor::{Process, Wire, Wires};
use super::folder::Folder;
use super::job::{JOB, SINK, epoch_zero};
use super::store::Store;
use super::walk::{Outcome, Violation};

mod checks;
mod choices;
mod enabled;
mod processes;

use checks::positions;

/// How large a world is.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub coordinators: usize,
    pub hosts: usize,
    pub slots: u32,
    pub parallelism: u32,
    pub splits: usize,
    /// Of each split, once all of them are there.
    pub records: u64,
    /// Records of each split that are there when the job is submitted.
    pub old: u64,
    /// The job begins behind those.
    pub from_latest: bool,
    pub epoch_interval_ms: u64,
    pub epoch_timeout_ms: u64,
    pub checkpoints_kept: usize,
    /// A step of a commit takes so long once the faults have ended.
    pub commit_step_ms: u64,
}

/// What may happen next. Numbers choose among what is there, and wrap around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A process takes the next message that its leader sent.
    Receive(usize),
    /// A leader takes the next message of a connection.
    Hear(usize),
    /// What the leader waits for is decided.
    Decide,
    /// A leader that gave up waiting leads as before, once it has applied what it wrote.
    LeadAgain,
    /// A coordinator's store does its next piece of work.
    Store(usize),
    /// A source of a process reads so many records of one of its splits.
    Read(usize, usize, usize, u64),
    /// A process takes what is first on one of its channels.
    Flow(usize, usize),
    /// A process takes a step of a commit, a withdrawal or a clean-up.
    Work(usize),
    /// Time passes, in milliseconds.
    Time(u64),
    /// So many records more are there to be read from a split.
    Append(usize, u64),
    /// A leader works out which rows of the splits nobody needs any more.
    PlanCut,
    /// It says so, perhaps much later.
    Cut,
    /// Whoever keeps the splits hears of it.
    Remove,
    /// A process without a connection finds who leads, or believes to.
    Attach(usize, usize),
    /// A coordinator is elected. Whether what the one before proposed was decided all the same.
    Elect(usize, bool),
    /// One that led finds out that it does not.
    Learn(usize),
    /// A coordinator dies.
    Crash(usize),
    /// The leader gives up waiting for what it proposed, which may still be decided.
    GiveUp,
    /// A coordinator's store fails in its next piece of work. Whether that was done all the same.
    StoreFails(usize, bool),
    /// A connection breaks. Whether the process has received what was on its way.
    Break(usize, bool),
    /// The lease of an executor ends, as a leader sees it.
    Expire(usize, usize),
    Kill(usize),
    Start(usize),
    /// Something fails in a process's generation.
    Fail(usize),
    /// The same as the last time.
    FailAlike(usize),
    /// Rows are lost between two subtasks.
    LoseOnWire(usize),
    /// A link between two executors of a generation breaks.
    CutLink(usize),
    /// A process sees that another one of its generation is gone.
    Notice(usize),
    /// An old message comes once more.
    RepeatDown(usize),
    RepeatUp(usize),
    /// Of clients.
    Stop,
    /// Without a savepoint.
    Close,
    Resume,
    Savepoint(usize),
    DropSavepoint(usize),
    /// What a rollback would take back is worked out.
    PlanRollback(usize),
    /// It is asked for, perhaps much later.
    Rollback(usize),
    /// An executor is to be left, or may be used again.
    Drain(usize, bool),
    Rescale(u32),
}

/// A connection of a process to a coordinator.
#[derive(Clone, Debug)]
struct Session {
    member: usize,
    host: usize,
    start: StartId,
    up: VecDeque<FromExecutor>,
    down: VecDeque<ToExecutor>,
}

/// A job of another cluster, which has the same folder and store.
const OTHER: Origin = Origin {
    token: Token { job: JobId(8 << 96), generation: Generation(0) },
    epoch: Epoch(1),
    subtask: SubtaskId { operator: SINK, index: 0 },
};
const TOPIC: &str = "read";
const TOPIC_ID: u64 = 7;
/// Old messages that may come again.
const OLD_MAX: usize = 64;

/// Keeps a message, perhaps in the place of another one: half of them are of any time (Vitter's reservoir), half are the
/// newest.
fn keep<T>(old: &mut VecDeque<T>, kept: &mut usize, message: T) {
    *kept += 1;
    if old.len() == OLD_MAX {
        let left = old.remove(OLD_MAX / 2);
        let at = kept.wrapping_mul(0x9E37_79B9_7F4A_7C15) / 97 % *kept;
        if let (Some(left), Some(place)) = (left, old.get_mut(at).filter(|_| at < OLD_MAX / 2)) {
            *place = left;
        }
    }
    old.push_back(message);
}

/// See the module.
#[derive(Clone, Debug)]
pub struct World {
    shape: Shape,
    now: u64,
    /// Everything that is decided, and what is true by it.
    log: Vec<Command>,
    truth: State,
    term: u64,
    leader: Option<usize>,
    members: Vec<Member>,
    hosts: Vec<Option<Process>>,
    sessions: Vec<Session>,
    wires: Wires,
    store: Store,
    folder: Folder,
    old_down: VecDeque<ToExecutor>,
    old_up: VecDeque<FromExecutor>,
    starts: u64,
    requests: u64,
    /// Names of handles that were ever claimed.
    claimed: BTreeSet<String>,
    /// Something was claimed since the job was asked to stop.
    was_stopped: bool,
    /// Where the splits end now, where the job began in them, and what of them is gone.
    heads: Vec<u64>,
    begun: Vec<u64>,
    gone: Vec<u64>,
    /// What a leader worked out and did not say yet: offsets, and the number of commands it knew of.
    planned: Option<(Vec<u64>, u64)>,
    /// A rollback that was worked out and not asked for yet.
    rollback: Option<Command>,
    /// What leaders wrote and did not hear of any more.
    undecided: Vec<Command>,
    /// Messages that were kept so far.
    kept: usize,
    /// When an epoch was triggered first.
    triggered: BTreeMap<(Generation, Epoch), u64>,
    /// When the faults ended.
    healing: Option<u64>,
    /// When the next step of a commit is taken, then.
    work_after: u64,
    /// What happened so far that a walk wants to have seen.
    pub seen: Seen,
}

/// How often something worth seeing happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub generations: u64,
    pub claims: u64,
    pub rollbacks: u64,
    pub retired: u64,
    pub cuts: u64,
    pub refusals: u64,
    pub fenced: u64,
}

impl Seen {
    /// Each by its name.
    pub fn figures(&self) -> Vec<(&'static str, u64)> {
        let Self { generations, claims, rollbacks, retired, cuts, refusals, fenced } = *self;
        vec![
            ("generations", generations),
            ("claims", claims),
            ("rollbacks", rollbacks),
            ("retired", retired),
            ("cuts", cuts),
            ("refusals", refusals),
            ("fenced", fenced),
        ]
    }
}

impl World {
    pub fn of_shape(shape: Shape) -> Self {
        let settings = JobSettings {
            epoch_interval_ms: shape.epoch_interval_ms,
            epoch_timeout_ms: shape.epoch_timeout_ms,
            checkpoints_kept: shape.checkpoints_kept,
            key_groups: 8,
            ..JobSettings::default()
        };
        let member = |_| Member { state: State::default(), applied: 0, leading: None };
        let mut world = Self {
            shape,
            now: 0,
            log: Vec::new(),
            truth: State::default(),
            term: 0,
            leader: None,
            members: (0..shape.coordinators).map(member).collect(),
            hosts: vec![None; shape.hosts],
            sessions: Vec::new(),
            wires: Wires::new(),
            store: Store::default(),
            folder: Folder::default(),
            old_down: VecDeque::new(),
            old_up: VecDeque::new(),
            starts: 0,
            requests: 0,
            claimed: BTreeSet::new(),
            was_stopped: false,
            heads: vec![shape.old; shape.splits],
            begun: vec![if shape.from_latest { shape.old } else { 0 }; shape.splits],
            gone: vec![0; shape.splits],
            planned: None,
            rollback: None,
            undecided: Vec::new(),
            kept: 0,
            triggered: BTreeMap::new(),
            healing: None,
            work_after: 0,
            seen: Seen::default(),
        };
        let zero = epoch_zero(&world.begun, shape.records, settings.clone());
        let key = ManifestKey { job: JOB, epoch: Epoch(0), generation: zero.generation, attempt: 0 }.to_string();
        world.store.manifests.insert(key.clone(), zero);
        world.folder.staged.insert(OTHER.object(0), Vec::new());
        world.store.objects.insert(state_object(&OTHER), Counts::new());
        let starts = topic_starts(&world.begun);
        let topics = Some(JobTopics { names: BTreeSet::from([TOPIC.to_owned()]), starts });
        let run_with = RunWith { parallelism: shape.parallelism, settings, together: false, trace: None, topics };
        let created = world.decide(&Command::CreateJob {
            job: JOB,
            name: "job".into(),
            script_digest: String::new(),
            manifest_key: key,
            checksum: String::new(),
            run_with: Some(Box::new(run_with)),
        });
        debug_assert!(created.is_ok());
        (0..shape.hosts).for_each(|host| world.start(host));
        world
    }

    /// What the state says of the job.
    pub fn status(&self) -> &JobStatus {
        &self.truth.jobs[&JOB].status
    }

    /// The next step.
    pub(super) fn act(&mut self, action: Action) -> Outcome {
        match action {
            Action::Receive(which) => self.receive(which),
            Action::Hear(which) => self.hear(which),
            Action::Decide => {
                self.decide_next()?;
                self.check_claims()
            }
            Action::LeadAgain => self.lead_again(),
            Action::GiveUp => {
                if let Some(leading) = self.leader.and_then(|leader| self.members[leader].leading.as_mut()) {
                    self.undecided.extend(leading.give_up());
                }
                Ok(())
            }
            Action::StoreFails(member, done) => {
                let member = member % self.members.len();
                if let Some(leading) = &mut self.members[member].leading {
                    leading.store_fails(&mut self.store, done);
                }
                self.pump(member);
                self.check_claims()
            }
            Action::Store(member) => {
                self.perform(member)?;
                self.check_claims()
            }
            Action::Read(host, source, split, count) => {
                self.check_may_read(host)?;
                self.run(host, |process, shared| process.read(source, split, count, shared))
            }
            Action::Flow(host, which) => self.run(host, |process, shared| process.flow(which, shared)),
            Action::Work(host) => {
                self.run(host, Process::work)?;
                self.check_folder()
            }
            Action::Time(ms) => self.pass(ms),
            Action::Append(split, count) => {
                let split = split % self.heads.len();
                self.heads[split] = (self.heads[split] + count).min(self.shape.records);
                Ok(())
            }
            Action::PlanCut => {
                self.plan_cut();
                Ok(())
            }
            Action::Cut => {
                let Some((offsets, as_of)) = self.planned.clone() else { return Ok(()) };
                let offsets = (0..).zip(offsets).collect();
                let cut = TopicCut { id: TOPIC_ID, offsets };
                self.ask(|_| Some(Command::CutTopic { topic: TOPIC.to_owned(), cut, as_of }))
            }
            Action::Remove => {
                let cut = self.truth.cuts.get(TOPIC).into_iter().flat_map(|cut| &cut.offsets);
                for (split, offset) in cut {
                    let gone = &mut self.gone[*split as usize];
                    *gone = (*gone).max(*offset);
                }
                Ok(())
            }
            Action::Attach(host, which) => self.attach(host, which),
            Action::Elect(member, survives) => self.elect(member, survives),
            Action::Learn(member) => {
                let member = member % self.members.len();
                if self.leader != Some(member) {
                    self.stand_down(member);
                }
                Ok(())
            }
            Action::Crash(member) => {
                let member = member % self.members.len();
                if self.leader == Some(member) {
                    self.leader = None;
                    // It may be on the others' disks.
                    let proposed = self.members[member].leading.as_mut().and_then(|leading| leading.proposed.take());
                    self.undecided.extend(proposed);
                }
                self.stand_down(member);
                Ok(())
            }
            Action::Break(which, received) => {
                if !self.sessions.is_empty() {
                    self.cut_session(which % self.sessions.len(), received);
                }
                Ok(())
            }
            Action::Expire(member, which) => self.expire(member, which),
            Action::Kill(host) => {
                self.kill(host);
                Ok(())
            }
            Action::Start(host) => {
                if self.hosts[host % self.hosts.len()].is_none() {
                    self.start(host);
                }
                Ok(())
            }
            Action::Fail(host) => self.run(host, |process, _| {
                process.fail_anew();
                Ok(())
            }),
            Action::FailAlike(host) => self.run(host, |process, _| {
                process.fail(Code::Io, "alike");
                Ok(())
            }),
            Action::LoseOnWire(which) => {
                // Of one subtask nothing goes over a wire.
                let generations = self.hosts.iter().flatten().filter_map(|process| process.generation.as_ref());
                let wired: BTreeSet<Token> = generations.filter(|g| g.parallelism > 1).map(|g| g.token).collect();
                let carries = |(wire, queue): &(&Wire, &mut VecDeque<Element>)| {
                    wired.contains(&wire.token) && matches!(queue.front(), Some(Element::Rows(_)))
                };
                let mut loaded: Vec<_> = self.wires.iter_mut().filter(carries).map(|(_, queue)| queue).collect();
                let at = which % loaded.len().max(1);
                if let Some(queue) = loaded.get_mut(at) {
                    queue.pop_front();
                }
                Ok(())
            }
            Action::CutLink(host) => self.cut_link(host),
            Action::Notice(host) => self.notice(host),
            Action::RepeatDown(which) => {
                // Now and then one that does something outside, of a generation that its process has left: those are few.
                let is_left = |message: &ToExecutor| {
                    let process = self.hosts[self.host_of(message.start)].as_ref();
                    let process = process.filter(|process| process.start == message.start);
                    let generation = process.and_then(|process| process.generation.as_ref());
                    generation.is_some_and(|generation| generation.token > message.token)
                };
                let acts = |message: &&ToExecutor| match (which % 4, &message.message) {
                    (1, ExecutorMessage::Start | ExecutorMessage::Commit(_) | ExecutorMessage::Withdraw(_))
                    | (2 | 3, ExecutorMessage::AbortLower { .. }) => is_left(message),
                    (kind, _) => kind == 0,
                };
                let old: Vec<&ToExecutor> = self.old_down.iter().filter(acts).collect();
                let Some(message) = old.get(which / 4 % old.len().max(1)).map(|message| (*message).clone()) else {
                    return Ok(());
                };
                // To whatever runs on its host by now: a start of a process is told by its message alone (P1).
                let host = self.host_of(message.start);
                self.run(host, |process, shared| process.take(&message, shared))?;
                self.check_folder()
            }
            Action::RepeatUp(which) => {
                let Some(message) = self.old_up.get(which % self.old_up.len().max(1)).cloned() else { return Ok(()) };
                let Some(leader) = self.leader else { return Ok(()) };
                self.tell(leader, Input::FromExecutor(message))
            }
            Action::Stop => self.ask(|_| Some(Command::StopWithSavepoint { job: JOB })),
            Action::Close => self.ask(|_| Some(Command::Close { job: JOB, outcome: command::Outcome::Stopped })),
            Action::Resume => self.ask(|_| Some(Command::Resume { job: JOB })),
            Action::Savepoint(which) => {
                self.requests += 1;
                let request = format!("r{}", self.requests);
                self.ask(|_| Some(Command::Savepoint { job: JOB, name: format!("n{}", which % 3), request }))
            }
            Action::DropSavepoint(which) => {
                self.ask(|_| Some(Command::DropSavepoint { job: JOB, name: format!("n{}", which % 3) }))
            }
            Action::PlanRollback(which) => {
                self.requests += 1;
                let request = format!("r{}", self.requests);
                let leader = self.leader.map(|leader| &self.members[leader].state);
                self.rollback = leader.and_then(|state| rollback(state, &self.store, &self.folder, which, request));
                Ok(())
            }
            Action::Rollback(which) => {
                self.requests += 1;
                let request = format!("r{}", self.requests);
                let leader = self.leader.map(|leader| &self.members[leader].state);
                let now = leader.and_then(|state| rollback(state, &self.store, &self.folder, which, request));
                let planned = self.rollback.take().or(now);
                self.ask(|_| planned)
            }
            Action::Drain(which, undo) => {
                let leading = self.leader.and_then(|leader| self.members[leader].leading.as_ref());
                let known = leading.map(|leading| &leading.known).into_iter().flatten();
                match known.map(|(start, _)| *start).nth(which % self.hosts.len()) {
                    Some(start) => self.drain(start, undo),
                    None => Ok(()),
                }
            }
            Action::Rescale(parallelism) => self.ask(|_| Some(Command::Rescale { job: JOB, parallelism })),
        }
    }

    /// One more command is in the log.
    fn decide(&mut self, command: &Command) -> Result<Result<Applied, Refusal>, Violation> {
        let job = self.truth.job(JOB);
        let before = job.and_then(|job| job.last_claim()).map(|(epoch, _)| epoch);
        let was_over = job.is_some_and(|job| job.closing.is_some() || job.status.is_ended());
        let was_ended = job.is_some_and(|job| job.status.is_ended());
        let result = self.truth.apply(command);
        self.log.push(command.clone());
        self.check_end_of_job(was_ended)?;
        match (command, &result) {
            (_, Err(_)) => self.seen.refusals += 1,
            (Command::Claim { epoch, .. }, Ok(Applied::Permit(permit))) => {
                self.seen.claims += 1;
                if before.is_some_and(|before| *epoch <= before) {
                    return Err(Violation(format!("I3: epoch {epoch} is claimed after {before:?}")));
                }
                if was_over {
                    return Err(Violation(format!("P7: epoch {epoch} is claimed of a job that is over")));
                }
                // The first claim after a stop is the last.
                if std::mem::replace(&mut self.was_stopped, self.truth.jobs[&JOB].stop_requested) {
                    return Err(Violation(format!(
                        "P7: epoch {epoch} is claimed after the one that a stop waited for"
                    )));
                }
                self.claimed.extend(permit.handles.iter().map(|handle| handle.name.clone()));
            }
            (Command::OpenGeneration { .. }, _) => self.seen.generations += 1,
            (Command::Resume { .. }, Ok(_)) => self.was_stopped = false,
            (Command::Retire { .. }, _) => self.seen.retired += 1,
            (Command::Rollback { .. }, _) => {
                self.seen.rollbacks += 1;
                self.was_stopped = false;
            }
            (Command::CutTopic { .. }, _) => self.seen.cuts += 1,
            (Command::RecordFailure { token, error, .. }, Ok(_)) if error.code() == Code::EpochTimeout => {
                // Whoever is asked answers at once by then, so that nothing but a commit takes long.
                let epoch = self.truth.jobs[&JOB].next_epoch();
                let since = self.triggered.get(&(token.generation, epoch)).copied();
                if since.zip(self.healing).is_some_and(|(since, healing)| since >= healing) {
                    return Err(Violation(format!("P8: epoch {epoch} is timed out by the commit before it")));
                }
            }
            (Command::Committed { .. } | Command::Withdrawn { .. }, Ok(_)) => self.check_prefix()?,
            _ => {}
        }
        Ok(result)
    }

    /// What the leader waits for is decided. One that does not lead any more is told so.
    fn decide_next(&mut self) -> Outcome {
        for member in 0..self.members.len() {
            let is_leader = self.leader == Some(member);
            let Some(leading) = &mut self.members[member].leading else { continue };
            if !is_leader && leading.proposed.is_some() {
                self.stand_down(member);
                continue;
            }
            if let Some(command) = leading.proposed.take() {
                self.decide_for(member, command, false)?;
            }
        }
        Ok(())
    }

    /// An executor takes no new work, or takes it again.
    fn drain(&mut self, start: StartId, undo: bool) -> Outcome {
        let Some(leader) = self.leader else { return Ok(()) };
        let Some(leading) = self.members[leader].leading.as_ref() else { return Ok(()) };
        let known = leading.known.keys().copied().collect();
        let usable = leading.known.iter().filter(|(_, known)| known.is_attached).map(|(start, _)| *start);
        let usable = Some(usable.collect());
        self.ask(|_| Some(Command::Drain { start, undo, known, usable, object: String::new() }))?;
        let Member { state, leading, .. } = &mut self.members[leader];
        if let Some(leading) = leading {
            leading.tell_executors(state, None);
        }
        self.pump(leader);
        Ok(())
    }

    /// What this leader wrote and gave up comes before what it writes now.
    fn settle(&mut self, member: usize) -> Outcome {
        for command in std::mem::take(&mut self.undecided) {
            let result = self.decide(&command)?;
            let Member { state, applied, .. } = &mut self.members[member];
            if state.apply(&command) != result {
                return Err(Violation(format!("I6: {command:?} gives another result")));
            }
            *applied = self.log.len();
        }
        Ok(())
    }

    fn lead_again(&mut self) -> Outcome {
        let Some(leader) = self.leader else { return Ok(()) };
        if !self.members[leader].leading.as_ref().is_some_and(|leading| leading.has_given_up) {
            return Ok(());
        }
        self.settle(leader)?;
        let Member { state, leading, .. } = &mut self.members[leader];
        if let Some(leading) = leading {
            leading.has_given_up = false;
            leading.drive(state);
        }
        self.pump(leader);
        self.check_claims()
    }

    /// A coordinator is elected: it has everything that was decided.
    fn elect(&mut self, member: usize, survives: bool) -> Outcome {
        let member = member % self.members.len();
        for command in std::mem::take(&mut self.undecided) {
            if survives {
                let _ = self.decide(&command)?;
            }
        }
        if let Some(old) = self.leader
            && let Some(command) = self.members[old].leading.as_ref().and_then(|leading| leading.proposed.clone())
            && survives
        {
            // It was on a majority, and its leader will not hear of it.
            let _ = self.decide(&command)?;
        }
        self.term += 1;
        self.leader = Some(member);
        self.cut_sessions_of(member);
        let suffix: Vec<Command> = self.log[self.members[member].applied..].to_vec();
        let replica = &mut self.members[member];
        for command in &suffix {
            let _ = replica.state.apply(command);
        }
        replica.applied = self.log.len();
        if replica.state != self.truth {
            return Err(Violation("I6: equal logs give other states".to_owned()));
        }
        // Now and then by a snapshot.
        if self.term.is_multiple_of(4) {
            replica.state = written_and_read(&replica.state)?;
            if replica.state != self.truth {
                return Err(Violation("I6: a state that is written and read is another one".to_owned()));
            }
        }
        let expected = replica.state.jobs[&JOB].placement.clone();
        let known = expected.iter().map(|start| (*start, Known { host: self.host_of(*start), is_attached: false }));
        let mut leading = Leading::new(self.term, self.shape.slots, known.collect());
        leading.drive(&self.truth);
        self.members[member].leading = Some(leading);
        self.pump(member);
        Ok(())
    }

    fn stand_down(&mut self, member: usize) {
        self.members[member].leading = None;
        self.cut_sessions_of(member);
    }

    /// A client asks the leader. What it asks for may be decided before something that the leader has proposed already.
    fn ask(&mut self, command: impl FnOnce(&State) -> Option<Command>) -> Outcome {
        let Some(leader) = self.leader else { return Ok(()) };
        let Member { state, leading, .. } = &mut self.members[leader];
        let Some(leading) = leading.as_ref() else { return Ok(()) };
        let (is_at_rest, command) = (leading.is_at_rest(), command(state));
        let Some(command) = command else { return Ok(()) };
        // A leader begins to run a job only when it is done with it.
        if is_at_rest || !matches!(command, Command::Resume { .. }) {
            self.decide_for(leader, command, true)?;
        }
        Ok(())
    }

    /// A leader's next command is in the log, and it hears of it.
    fn decide_for(&mut self, member: usize, command: Command, asked: bool) -> Outcome {
        self.settle(member)?;
        // As it goes over the wire.
        let command = if self.log.len().is_multiple_of(8) { written_and_read(&command)? } else { command };
        let result = self.decide(&command)?;
        let Member { state, applied, leading } = &mut self.members[member];
        let own = state.apply(&command);
        *applied = self.log.len();
        if own != result {
            return Err(Violation(format!("I6: {command:?} gives {own:?} and {result:?}")));
        }
        if let Some(leading) = leading {
            leading.decided(state, command, result, asked);
        }
        self.pump(member);
        Ok(())
    }

    /// A coordinator hears something, if it leads and has nothing else to do.
    fn tell(&mut self, member: usize, input: Input) -> Outcome {
        let Some(leading) = self.members[member].leading.as_mut().filter(|leading| leading.is_at_rest()) else {
            return Ok(());
        };
        leading.hear(input);
        self.pump(member);
        Ok(())
    }

    /// The leader's loop goes on.
    fn pump(&mut self, member: usize) {
        let Member { state, leading, .. } = &mut self.members[member];
        let Some(leading) = leading else { return };
        let sent = leading.pump(state, self.now);
        for message in sent {
            self.send(member, message);
        }
    }

    fn send(&mut self, member: usize, message: ToExecutor) {
        let is_known = self.members[member]
            .leading
            .as_ref()
            .is_some_and(|leading| leading.known.get(&message.start).is_some_and(|known| known.is_attached));
        let session = self.sessions.iter_mut().find(|s| s.member == member && s.start == message.start);
        if let Some(session) = session.filter(|_| is_known) {
            keep(&mut self.old_down, &mut self.kept, message.clone());
            if let ExecutorMessage::Trigger { epoch } = &message.message {
                self.triggered.entry((message.token.generation, *epoch)).or_insert(self.now);
            }
            session.down.push_back(message);
        }
    }

    fn perform(&mut self, member: usize) -> Outcome {
        let member = member % self.members.len();
        let Some(leading) = self.members[member].leading.as_mut().filter(|leading| leading.has_io()) else {
            return Ok(());
        };
        leading.perform(&mut self.store, &self.truth).map_err(Violation)?;
        self.pump(member);
        Ok(())
    }

    fn pass(&mut self, ms: u64) -> Outcome {
        self.now += ms;
        for member in 0..self.members.len() {
            self.tell(member, Input::Tick)?;
            let leading = self.members[member].leading.as_ref().filter(|leading| leading.is_at_rest());
            if let Some(at) = leading.and_then(Leading::wake_at).filter(|at| *at <= self.now) {
                return Err(Violation(format!("a driver wants to be woken at {at}, which is past: it would spin")));
            }
        }
        Ok(())
    }
}

/// What is left of something that is written as JSON and read again.
fn written_and_read<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> Result<T, Violation> {
    let wrong = |e: serde_json::Error| Violation(format!("I6: {e}"));
    serde_json::from_str(&serde_json::to_string(value).map_err(wrong)?).map_err(wrong)
}

/// The splits of the model's source are the partitions of one topic.
fn topic_starts(positions: &[u64]) -> Vec<TopicStart> {
    let start = |(partition, offset): (u32, &u64)| TopicStart {
        topic: TOPIC.to_owned(),
        id: Some(TOPIC_ID),
        partition,
        offset: *offset,
    };
    (0..).zip(positions).map(start).collect()
}

/// Back to one of the epochs that may be restored, as of now. What it takes back is what the sink has shown since, also
/// of epochs that are retired, and what claims are about to show.
fn rollback(state: &State, store: &Store, folder: &Folder, which: usize, request: String) -> Option<Command> {
    let job = state.job(JOB)?;
    let to = job.claims.keys().nth(which % job.claims.len().max(1)).copied()?;
    let (expected, _) = job.last_claim()?;
    let after = job.claims.range(to.next()..).flat_map(|(_, claim)| &claim.handles);
    let is_shown_since = |name: &&String| Origin::parse_object(name).is_some_and(|(origin, _)| origin.epoch > to);
    let shown = folder.visible.keys().filter(is_shown_since).cloned();
    let names: BTreeSet<String> = after.map(|handle| handle.name.clone()).chain(shown).collect();
    let objects = vec![WithdrawnObjects { operator: SINK, names: names.into_iter().collect() }];
    let starts = topic_starts(&positions(store.manifests.get(&job.claims.get(&to)?.manifest_key)?));
    Some(Command::Rollback { job: JOB, to, expected, objects, starts, request })
}
