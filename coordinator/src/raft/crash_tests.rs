//! The journal over a simulated disk: what a start reads, what history tells, and every crash between.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use openraft::EntryPayload;
use qanat_coordinator_core::audit::Caller;
use qanat_coordinator_core::command::Proposal;
use qanat_coordinator_core::{Command, State};
use qanat_proto::ids::{Epoch, Generation, JobId, OperatorId, SplitId, StartId, Token};
use qanat_proto::receipt::{Receipt, SourceReceipt, SplitReceipt, Totals};
use qanat_proto::settings::JobSettings;
use qanat_proto::{Code, Result};
use qanat_storage::env::sim::{CrashState, SimEnv};
use qanat_storage::env::{Disk, Env};
use qanat_storage::log::GroupCommit;

use super::journal::{Journal, Limits, Recovered, Row};
use super::look::{EVERYTHING, Entry, Reach, look};
use super::state_machine::{RunSummary, Snapshot, replayed};
use super::types::{LogId, RaftEntry, SnapshotMeta, StoredMembership, Types, Vote};

const FOLDER: &str = "/commands";
/// A snapshot every few commands, the larger ones in several rows; history of a few segments.
const SMALL: Limits = Limits { snapshot_after: 2_000, share: 1, history: 40_000, part: 700 };

fn open(env: &Env, limits: Limits) -> Result<(Journal, Recovered)> {
    Journal::open(env, Path::new(FOLDER), GroupCommit::inline(), limits)
}

fn id(term: u64, index: u64) -> LogId {
    openraft::testing::log_id::<Types>(term, 1, index)
}

fn token(job: u128, generation: u64) -> Token {
    Token { job: JobId(job), generation: Generation(generation) }
}

fn create(job: u128) -> Command {
    Command::CreateJob {
        job: JobId(job),
        name: format!("job-{job}"),
        script_digest: "digest".into(),
        manifest_key: "m0".into(),
        checksum: "c0".into(),
        run_with: None,
    }
}

fn generation(job: u128, expected: u64) -> Command {
    Command::OpenGeneration {
        job: JobId(job),
        expected: Generation(expected),
        placement: vec![StartId(7)],
        parallelism: 2,
        settings: JobSettings::default(),
    }
}

fn claim(token: Token, epoch: u64) -> Command {
    let splits = vec![SplitReceipt {
        id: SplitId("s".into()),
        from: Arc::new((epoch - 1).into()),
        to: Arc::new(epoch.into()),
        rows: 1,
    }];
    let sources = vec![SourceReceipt { operator: OperatorId(1), table: "t".into(), splits }];
    Command::Claim {
        token,
        epoch: Epoch(epoch),
        manifest_key: format!("m{epoch}"),
        checksum: "c".into(),
        handles: Vec::new(),
        is_final: false,
        receipt: Box::new(Receipt { job: token.job, epoch: Epoch(epoch), sources, ..Receipt::default() }),
    }
}

fn committed(token: Token, epoch: u64) -> Command {
    Command::Committed { token, epoch: Epoch(epoch), manifest_key: format!("m{epoch}"), handle_names: Vec::new() }
}

/// What a start must find.
#[derive(Clone, Debug, Default, PartialEq)]
struct Known {
    vote: Option<Vote>,
    /// All entries there ever were that are not void, by index.
    entries: BTreeMap<u64, (LogId, Option<Proposal>)>,
}

impl Known {
    /// What the entries up to `end` lead to.
    fn content(&self, end: u64) -> Snapshot {
        replayed(self.entries.range(..end).filter_map(|(_, (_, proposal))| proposal.as_ref()))
    }

    fn next(&self) -> u64 {
        self.entries.last_key_value().map_or(0, |(index, _)| index + 1)
    }
}

/// A journal that is written, with everything it ever held.
struct Run {
    sim: SimEnv,
    journal: Journal,
    known: Known,
    history: Vec<Known>,
    term: u64,
    /// Entries that stay behind each snapshot.
    behind: u64,
}

impl Run {
    fn new(seed: u64, behind: u64) -> Self {
        let sim = Env::sim(seed);
        sim.disk.record();
        let (journal, _) = open(&sim.env, SMALL).expect("a new journal");
        Self { sim, journal, known: Known::default(), history: vec![Known::default()], term: 1, behind }
    }

    fn append(&mut self, rows: Vec<Row>) {
        let rows = rows.into_iter().map(|row| row.text().expect("encodes")).collect();
        self.journal.append(rows).expect("room");
        self.history.push(self.known.clone());
        self.sim.disk.mark(self.history.len() as u64 - 1);
    }

    /// An entry that is decided at once.
    fn take(&mut self, command: Option<Command>) {
        self.propose(command);
        if self.journal.is_large() {
            self.snapshot();
        }
    }

    fn propose(&mut self, command: Option<Command>) {
        let index = self.known.next();
        let proposal = command.map(|command| {
            let caller = Caller { who: "ann".into(), what: "Jobs.Submit".into(), from: String::new() };
            let caller = command.is_asked_for().then(|| Box::new(caller));
            Proposal { at_ms: i64::try_from(index).expect("few"), command, caller }
        });
        let log_id = id(self.term, index);
        let payload = proposal.clone().map_or(EntryPayload::Blank, EntryPayload::Normal);
        self.known.entries.insert(index, (log_id, proposal));
        self.append(vec![Row::Entry(RaftEntry { log_id, payload })]);
    }

    fn vote(&mut self, term: u64) {
        self.term = term;
        let vote = Vote::new(term, 1);
        self.known.vote = Some(vote);
        self.append(vec![Row::Vote(vote)]);
    }

    fn truncate(&mut self, after: u64) {
        self.known.entries.split_off(&(after + 1));
        self.append(vec![Row::Truncate(Some(self.known.entries[&after].0))]);
    }

    /// Covers all entries but the last few, which follow it.
    fn snapshot(&mut self) {
        let end = self.known.next() - self.behind;
        let last_log_id = self.known.entries.get(&(end - 1)).map(|(id, _)| *id);
        let meta = SnapshotMeta { last_log_id, last_membership: StoredMembership::default() };
        let machine = serde_json::to_string(&self.known.content(end)).expect("JSON");
        let row = Row::Snapshot { vote: self.known.vote, meta, machine: machine.into() };
        let behind = self.known.entries.range(end..).map(|(_, (log_id, proposal))| {
            let payload = proposal.clone().map_or(EntryPayload::Blank, EntryPayload::Normal);
            Row::Entry(RaftEntry { log_id: *log_id, payload }).text().expect("encodes")
        });
        let behind = behind.collect();
        self.journal.snapshot(row, behind).expect("room");
    }

    /// A job that claims epochs `from` to `to` and retires those far behind.
    fn epochs(&mut self, job: u128, generation: u64, from: u64, to: u64) {
        for epoch in from..=to {
            self.take(Some(claim(token(job, generation), epoch)));
            // A repeat is refused, and stands in the log all the same.
            self.take(Some(claim(token(job, generation), epoch)));
            self.take(Some(committed(token(job, generation), epoch)));
            if epoch > 3 {
                self.take(Some(Command::Retire { job: JobId(job), epochs: vec![Epoch(epoch - 3)] }));
                self.take(Some(Command::Collected { job: JobId(job), epochs: vec![Epoch(epoch - 3)] }));
            }
        }
    }

    fn segments(&self) -> Vec<u64> {
        self.journal.topic().partition(0).expect("open").segment_offsets()
    }
}

fn long_run(seed: u64, behind: u64) -> Run {
    let mut run = Run::new(seed, behind);
    run.vote(1);
    run.take(None);
    run.take(Some(create(1)));
    run.take(Some(generation(1, 0)));
    run.epochs(1, 1, 1, 4);
    run.vote(2);
    run.take(Some(create(2)));
    run.take(Some(generation(2, 0)));
    // Entries that another leader voids.
    let kept = run.known.next() - 1;
    run.propose(Some(create(3)));
    run.propose(Some(create(4)));
    run.vote(4);
    run.truncate(kept);
    run.take(None);
    run.epochs(2, 1, 1, 1);
    run.take(Some(generation(1, 1)));
    run.epochs(1, 2, 5, 8);
    run
}

/// A leader whose own disk is slower than those of a majority has applied what it has not written yet.
#[test]
fn a_history_that_lacks_what_is_decided_is_not_told() {
    let mut run = Run::new(5, 1);
    run.vote(1);
    run.take(None);
    run.take(Some(create(1)));
    let look = |end| look(&run.sim.env, Path::new(FOLDER), Reach::History, end);
    let end = run.known.next();
    assert!(look(end).expect("is there").is_some_and(|entries| !entries.is_empty()));
    assert_eq!(look(end + 1).expect_err("is on its way").code(), Code::NoQuorum);
    assert!(look(EVERYTHING).is_ok());
}

/// History from the oldest row that is left must lead to the same state, through every snapshot on the way.
fn told(env: &Env, reach: Reach) -> Result<(State, BTreeMap<JobId, Totals>, usize)> {
    let entries = look(env, Path::new(FOLDER), reach, EVERYTHING)?.unwrap_or_default();
    let (mut state, mut totals, mut snapshots) = (State::default(), BTreeMap::<JobId, Totals>::new(), 0);
    let sums = |runs: Vec<RunSummary>| runs.into_iter().map(|run| (run.job, run.totals)).collect::<BTreeMap<_, _>>();
    for (index, (_, entry)) in entries.into_iter().enumerate() {
        match entry {
            Entry::Snapshot(snapshot) => {
                snapshots += 1;
                if index == 0 {
                    (state, totals) = (snapshot.state, sums(snapshot.runs));
                } else {
                    assert_eq!(snapshot.state, state);
                    assert_eq!(sums(snapshot.runs), totals);
                }
            }
            Entry::Proposal(proposal) => {
                let command = &proposal.command;
                if state.apply_proposal(&proposal).is_ok() {
                    let totals = totals.entry(command.job().expect("of a job")).or_default();
                    if let Command::Claim { receipt, .. } = command {
                        totals.add(receipt);
                    }
                }
            }
        }
    }
    Ok((state, totals, snapshots))
}

/// Whether a start found all of it: the snapshot, and behind it the entries, with nothing between.
fn is_all(known: &Known, found: &Recovered) -> bool {
    let covered = found.snapshot.as_ref().and_then(|(meta, _)| meta.last_log_id).map_or(0, |id| id.index + 1);
    let rest = found.entries.iter().map(|(index, entry)| match &entry.payload {
        EntryPayload::Normal(proposal) => (*index, (entry.log_id, Some(proposal.clone()))),
        _ => (*index, (entry.log_id, None)),
    });
    let snapshot = found.snapshot.as_ref().is_none_or(|(meta, text)| {
        let last = known.entries.get(&(covered - 1)).map(|(id, _)| *id);
        Snapshot::parse(text).expect("own text") == known.content(covered) && meta.last_log_id == last
    });
    let known_rest = known.entries.range(covered..).map(|(index, entry)| (*index, entry.clone()));
    snapshot && found.vote == known.vote && rest.eq(known_rest)
}

#[test]
fn a_start_reads_from_the_newest_snapshot_and_history_is_bounded() {
    for behind in [0, 2] {
        let run = long_run(1, behind);
        let segments = run.segments();
        assert!(segments[0] > 0, "history goes: {segments:?}");
        assert!(segments.len() > 1, "and some of it stays: {segments:?}");
        let partition = run.journal.topic().partition(0).expect("open");
        assert!(partition.bytes() < SMALL.history + 20_000, "{}", partition.bytes());
        let (_, recovered) = open(&run.sim.env, SMALL).expect("sound");
        assert!(recovered.snapshot.is_some());
        assert!(is_all(&run.known, &recovered));
        for reach in [Reach::History, Reach::State] {
            let (state, totals, snapshots) = told(&run.sim.env, reach).expect("sound");
            assert_eq!(state, run.known.content(u64::MAX).state);
            assert_eq!(snapshots > 1, reach == Reach::History);
            assert_eq!(totals[&JobId(1)].epochs, 8);
            assert_eq!(totals[&JobId(1)].sources["t"], 8);
            assert_eq!(totals[&JobId(2)].epochs, 1);
        }
    }
}

fn check(run: &Run, crash: &CrashState, tells: bool) {
    let known = crash.last_mark().unwrap_or(0) as usize;
    let env = Env { disk: Arc::new(crash.disk.clone()), ..run.sim.env.clone() };
    let (_, recovered) = open(&env, SMALL).unwrap_or_else(|e| panic!("{e}: {crash}"));
    // Everything acknowledged, and at most the write that was under way.
    let candidates = &run.history[known..(known + 2).min(run.history.len())];
    let at = candidates.iter().find(|at| is_all(at, &recovered));
    let at = at.unwrap_or_else(|| panic!("neither {known} nor the next: {crash}"));
    if !tells {
        return;
    }
    let content = at.content(u64::MAX);
    let sums: BTreeMap<_, _> = content.runs.iter().map(|run| (run.job, run.totals.clone())).collect();
    for reach in [Reach::History, Reach::State] {
        let (state, totals, _) = told(&env, reach).unwrap_or_else(|e| panic!("{e}: {crash}"));
        assert_eq!(state, content.state, "history leads to the state: {crash}");
        assert_eq!(totals, sums, "{crash}");
    }
}

/// Votes, appends, truncations, snapshots, new segments and removals, cut short between any two writes and inside each.
fn every_crash(behind: u64) {
    let run = long_run(2, behind);
    assert!(run.segments()[0] > 0);
    let trace = run.sim.disk.take_trace();
    let mut states = 0;
    for crash in trace.crash_states() {
        states += 1;
        check(&run, &crash, states % 4 == 0);
    }
    assert!(states > 500, "{states}");
}

#[test]
fn every_crash_of_a_journal_whose_snapshots_cover_all() {
    every_crash(0);
}

#[test]
fn every_crash_of_a_journal_with_entries_behind_its_snapshots() {
    every_crash(2);
}

/// The part that a start needs is missing, and no shorter history passes for it.
#[test]
fn a_missing_segment_is_refused() {
    let segments = long_run(4, 0).segments().len();
    for missing in 0..segments {
        let run = long_run(4, 0);
        let folder = run.journal.topic().folder_of(0);
        let mut files: Vec<_> = run.sim.disk.list(&folder).expect("lists").into_iter().map(|e| e.path).collect();
        files.retain(|path| path.extension().is_some_and(|e| e == "log"));
        files.sort();
        run.sim.disk.remove_file(&files[missing]).expect("removed");
        let opened = open(&run.sim.env, SMALL);
        if missing + 1 < segments {
            assert_eq!(opened.err().expect("a hole").code(), Code::CorruptLog);
        }
    }
}

#[test]
fn rows_of_another_version_are_refused() {
    let mut run = Run::new(6, 0);
    run.take(Some(create(1)));
    // As the command log had them before there was a group.
    let old = r#"{"command":"resume","job":"00000000000000000000000000000001"}"#;
    run.journal.append(vec![old.to_owned()]).expect("room");
    assert_eq!(open(&run.sim.env, SMALL).err().expect("refused").code(), Code::UnknownVersion);
    let text = serde_json::to_string(&run.known.content(1)).expect("JSON").replace(r#""version":2"#, r#""version":3"#);
    assert_eq!(Snapshot::parse(&text).expect_err("refused").code(), Code::UnknownVersion);
}
