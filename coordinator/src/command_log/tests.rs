//! The log over a simulated disk: what a start reads, what history tells, and every crash between.

use std::collections::BTreeMap;

use qanat_coordinator_core::command::Outcome;
use qanat_proto::ids::{Epoch, Generation, JobId, OperatorId, SplitId, StartId, Token};
use qanat_proto::receipt::{Receipt, SourceReceipt, SplitReceipt};
use qanat_proto::settings::JobSettings;
use qanat_storage::env::Disk;
use qanat_storage::env::sim::{CrashState, SimEnv};

use super::*;

const FOLDER: &str = "/commands";
/// A snapshot every few commands, history of a few segments.
const SMALL: Limits = Limits { snapshot_after: 2_000, share: 1, history: 40_000 };

fn open(env: &Env, limits: Limits) -> Result<(CommandLog, State)> {
    CommandLog::open_with(env, Path::new(FOLDER), GroupCommit::inline(), limits)
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

/// A log that is written, with every state it went through.
struct Run {
    sim: SimEnv,
    log: CommandLog,
    state: State,
    /// State and summaries after each number of commands.
    states: Vec<(State, Vec<RunSummary>)>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let sim = Env::sim(seed);
        sim.disk.record();
        let (log, state) = open(&sim.env, SMALL).expect("a new log");
        Self { sim, log, state, states: vec![(State::default(), Vec::new())] }
    }

    fn take(&mut self, command: Command) {
        self.log.append(&command).expect("room");
        if self.state.apply(&command).is_ok() {
            self.log.accepted(&command);
        }
        self.states.push((self.state.clone(), timeless(&self.log.runs)));
        self.sim.disk.mark(self.states.len() as u64 - 1);
        self.log.compact(&self.state).expect("compacts");
    }

    /// A job that claims epochs `from` to `to` and retires those far behind.
    fn epochs(&mut self, job: u128, generation: u64, from: u64, to: u64) {
        for epoch in from..=to {
            self.take(claim(token(job, generation), epoch));
            // A repeat is refused, and stands in the log all the same.
            self.take(claim(token(job, generation), epoch));
            self.take(committed(token(job, generation), epoch));
            if epoch > 3 {
                self.take(Command::Retire { job: JobId(job), epochs: vec![Epoch(epoch - 3)] });
                self.take(Command::Collected { job: JobId(job), epochs: vec![Epoch(epoch - 3)] });
            }
        }
    }

    fn segments(&self) -> Vec<u64> {
        self.log.topic.partition(0).expect("open").segment_offsets()
    }
}

/// Times are those of the clock, which a crash does not take back.
fn timeless(runs: &[RunSummary]) -> Vec<RunSummary> {
    runs.iter().map(|run| RunSummary { created_ms: 0, changed_ms: 0, ..run.clone() }).collect()
}

fn long_run(seed: u64) -> Run {
    let mut run = Run::new(seed);
    run.take(create(1));
    run.take(generation(1, 0));
    run.epochs(1, 1, 1, 4);
    run.take(create(2));
    run.take(generation(2, 0));
    run.epochs(2, 1, 1, 1);
    run.take(Command::Close { job: JobId(2), outcome: Outcome::Stopped });
    run.take(generation(1, 1));
    run.epochs(1, 2, 5, 8);
    run
}

/// History from the oldest row that is left must lead to the same state, through every snapshot on the way.
fn replayed(env: &Env, reach: Reach) -> Result<(State, BTreeMap<JobId, Totals>, usize)> {
    let entries = CommandLog::look(env, Path::new(FOLDER), reach)?.unwrap_or_default();
    let (mut state, mut totals, mut snapshots) = (State::default(), BTreeMap::<JobId, Totals>::new(), 0);
    for (index, (_, entry)) in entries.into_iter().enumerate() {
        match entry {
            Entry::Snapshot(snapshot) => {
                snapshots += 1;
                if index == 0 {
                    state = snapshot.state;
                    totals = snapshot.runs.into_iter().map(|run| (run.job, run.totals)).collect();
                } else {
                    assert_eq!(snapshot.state, state);
                    assert_eq!(
                        snapshot.runs.into_iter().map(|r| (r.job, r.totals)).collect::<BTreeMap<_, _>>(),
                        totals
                    );
                }
            }
            Entry::Command(command) => {
                if state.apply(&command).is_ok() {
                    let totals = totals.entry(command.job()).or_default();
                    if let Command::Claim { receipt, .. } = &command {
                        totals.add(receipt);
                    }
                }
            }
        }
    }
    Ok((state, totals, snapshots))
}

#[test]
fn a_start_reads_from_the_newest_snapshot_and_history_is_bounded() {
    let run = long_run(1);
    let segments = run.segments();
    assert!(segments[0] > 0, "history goes: {segments:?}");
    assert!(segments.len() > 1, "and some of it stays: {segments:?}");
    let partition = run.log.topic.partition(0).expect("open");
    assert!(partition.bytes() < SMALL.history + 20_000, "{}", partition.bytes());
    let (log, state) = open(&run.sim.env, SMALL).expect("sound");
    assert_eq!(state, run.state);
    assert_eq!(log.runs, run.log.runs);
    assert_eq!(
        (&log.snapshots, log.snapshot_bytes, log.command_bytes),
        (&run.log.snapshots, run.log.snapshot_bytes, run.log.command_bytes)
    );
    for reach in [Reach::History, Reach::State] {
        let (state, totals, snapshots) = replayed(&run.sim.env, reach).expect("sound");
        assert_eq!(state, run.state);
        assert_eq!(snapshots > 1, reach == Reach::History);
        assert_eq!(totals[&JobId(1)].epochs, 8);
        assert_eq!(totals[&JobId(1)].sources["t"], 8);
        assert_eq!(totals[&JobId(2)].epochs, 1);
    }
}

fn check(run: &Run, crash: &CrashState) {
    let known = crash.last_mark().unwrap_or(0) as usize;
    let env = Env { disk: Arc::new(crash.disk.clone()), ..run.sim.env.clone() };
    let (log, state) = open(&env, SMALL).unwrap_or_else(|e| panic!("{e}: {crash}"));
    // Everything acknowledged, and at most the command that was under way.
    let at = usize::try_from(state.applied).expect("few");
    assert!((known..=known + 1).contains(&at) && at < run.states.len(), "{at} of {known} commands: {crash}");
    assert_eq!((&state, &timeless(&log.runs)), (&run.states[at].0, &run.states[at].1), "{crash}");
    let sums: BTreeMap<_, _> = log.runs.iter().map(|run| (run.job, run.totals.clone())).collect();
    for reach in [Reach::History, Reach::State] {
        let (replayed, totals, _) = replayed(&env, reach).unwrap_or_else(|e| panic!("{e}: {crash}"));
        assert_eq!(replayed, state, "history leads to the state: {crash}");
        assert_eq!(totals, sums, "{crash}");
    }
}

/// Appends, snapshots, new segments and removals, cut short between any two writes and inside each.
#[test]
fn every_crash_of_a_compacted_log() {
    let run = long_run(2);
    assert!(run.segments()[0] > 0);
    let trace = run.sim.disk.take_trace();
    let mut states = 0;
    for crash in trace.crash_states() {
        states += 1;
        check(&run, &crash);
    }
    assert!(states > 500, "{states}");
}

/// What goes on after a crash is compacted as before.
#[test]
fn a_log_goes_on_after_any_crash_of_a_snapshot() {
    let mut run = Run::new(3);
    run.take(create(1));
    run.take(generation(1, 0));
    run.epochs(1, 1, 1, 4);
    let trace = run.sim.disk.take_trace();
    for crash in trace.crash_states().step_by(23) {
        let env = Env { disk: Arc::new(crash.disk.clone()), ..run.sim.env.clone() };
        let (mut log, mut state) = open(&env, SMALL).unwrap_or_else(|e| panic!("{e}: {crash}"));
        let commands = [create(5), generation(5, 0)]
            .into_iter()
            .chain((1..12).flat_map(|epoch| [claim(token(5, 1), epoch), committed(token(5, 1), epoch)]));
        for command in commands {
            log.append(&command).expect("room");
            if state.apply(&command).is_ok() {
                log.accepted(&command);
            }
            log.compact(&state).expect("compacts");
        }
        drop(log);
        let (log, found) = open(&env, SMALL).unwrap_or_else(|e| panic!("{e}: {crash}"));
        assert_eq!(found, state, "{crash}");
        assert!(!log.snapshots.is_empty());
        assert_eq!(replayed(&env, Reach::History).unwrap_or_else(|e| panic!("{e}: {crash}")).0, state, "{crash}");
    }
}

/// Hands in the folder: the part that a start needs is missing, and no shorter history passes for it.
#[test]
fn a_missing_segment_is_refused() {
    let run = long_run(4);
    let folder = run.log.topic.folder_of(0);
    let segments = run.segments().len();
    for missing in 0..segments {
        let run = long_run(4);
        let mut files: Vec<_> = run.sim.disk.list(&folder).expect("lists").into_iter().map(|e| e.path).collect();
        files.retain(|path| path.extension().is_some_and(|e| e == "log"));
        files.sort();
        run.sim.disk.remove_file(&files[missing]).expect("removed");
        let opened = open(&run.sim.env, SMALL);
        if missing == 0 {
            // Exactly what retention does.
            assert_eq!(opened.expect("history is shorter").1, run.state);
        } else if missing + 1 < segments {
            assert_eq!(opened.err().expect("a hole").code(), Code::CorruptLog);
        }
    }
    // No snapshot stands for what is gone.
    let mut run = Run::new(5);
    run.log.limits.snapshot_after = u64::MAX;
    run.take(create(1));
    run.take(generation(1, 0));
    let text = serde_json::to_string(&claim(token(1, 1), 1)).expect("JSON");
    let offset = run.log.write(text, AppendOptions { begins_segment: true, ..AppendOptions::default() }).expect("room");
    run.log.topic.partition(0).expect("open").remove_before(offset).expect("removed");
    assert_eq!(open(&run.sim.env, SMALL).err().expect("no beginning").code(), Code::CorruptLog);
    assert_eq!(
        CommandLog::look(&run.sim.env, Path::new(FOLDER), Reach::History).expect_err("no beginning").code(),
        Code::CorruptLog
    );
}

#[test]
fn a_snapshot_of_another_version_is_refused() {
    let mut run = Run::new(6);
    run.take(create(1));
    let snapshot = Snapshot { version: 2, state: run.state.clone(), runs: Vec::new() };
    let text = serde_json::to_string(&Tagged { command: SNAPSHOT, snapshot: &snapshot }).expect("JSON");
    run.log.write(text, AppendOptions::default()).expect("room");
    assert_eq!(open(&run.sim.env, SMALL).err().expect("refused").code(), Code::UnknownVersion);
}
