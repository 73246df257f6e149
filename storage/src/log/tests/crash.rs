//! Power failures: every state that a crash can leave of a recorded run is opened and checked (I8).

use std::collections::BTreeSet;

use super::*;
use crate::env::sim::Trace;
use crate::log::{AppendOptions, OwnerToken, Retention, StagedHandle, TopicSpec};

/// What the caller had been told when a mark was set.
#[derive(Clone, Debug, Default)]
struct Known {
    created: bool,
    /// Per partition: rows below this offset are acknowledged.
    ends: [u64; 2],
    prepared: usize,
    committed: usize,
    owner: u64,
    /// Aborted handles, by index.
    aborted: BTreeSet<usize>,
}

/// A run of the log, with everything it could have written.
struct Run {
    sim: SimEnv,
    topic: Option<Arc<Topic>>,
    topics: Topics,
    /// The full sequence of each partition, in offset order, and the offsets at which runs end.
    written: [Vec<i64>; 2],
    boundaries: [BTreeSet<u64>; 2],
    handles: Vec<StagedHandle>,
    known: Known,
    marks: Vec<Known>,
    next_id: i64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let sim = Env::sim(seed);
        let topics = open(&sim.env, FOLDER);
        sim.disk.record();
        let boundaries = [BTreeSet::from([0]), BTreeSet::from([0])];
        Self {
            sim,
            topic: None,
            topics,
            written: Default::default(),
            boundaries,
            handles: Vec::new(),
            known: Known::default(),
            marks: vec![Known::default()],
            next_id: 0,
        }
    }

    fn mark(&mut self) {
        self.marks.push(self.known.clone());
        self.sim.disk.mark(self.marks.len() as u64 - 1);
    }

    fn topic(&self) -> &Arc<Topic> {
        self.topic.as_ref().expect("created first")
    }

    fn create(&mut self) {
        self.topic = Some(self.topics.create(&name("t"), TopicSpec::new(2)).expect("new"));
        self.known.created = true;
        self.mark();
    }

    fn fresh(&mut self, count: usize) -> Vec<i64> {
        let from = self.next_id;
        self.next_id += count as i64;
        (from..self.next_id).collect()
    }

    fn note(&mut self, partition: usize, ids: &[i64]) {
        self.written[partition].extend(ids);
        self.boundaries[partition].insert(self.written[partition].len() as u64);
    }

    /// Appends queued together: one group.
    fn append(&mut self, partition: usize, counts: &[usize]) {
        let mut pending = Vec::new();
        for count in counts {
            let ids = self.fresh(*count);
            let options = AppendOptions::default();
            pending.push(self.topic().append_later(partition as u32, &rows(ids.clone()), &options).expect("queued"));
            self.note(partition, &ids);
        }
        for pending in pending {
            pending.wait().expect("room");
        }
        self.known.ends[partition] = self.written[partition].len() as u64;
        self.mark();
    }

    fn stage(&mut self, generation: u64, epoch: u64, counts: [usize; 2]) -> Vec<Vec<i64>> {
        let mut staging = self.topic().stage(origin(generation, epoch, self.handles.len() as u32), 0);
        let mut all = Vec::new();
        for (partition, count) in counts.into_iter().enumerate() {
            let ids = self.fresh(count);
            for piece in ids.chunks(2) {
                staging.write(partition as u32, &rows(piece.iter().copied()), None).expect("room");
            }
            all.push(ids);
        }
        self.handles.push(staging.prepare().expect("durable"));
        self.known.prepared = self.handles.len();
        self.mark();
        all
    }

    fn commit(&mut self, generation: u64, epoch: u64, counts: [usize; 2]) {
        let ids = self.stage(generation, epoch, counts);
        for (partition, ids) in ids.iter().enumerate().filter(|(_, ids)| !ids.is_empty()) {
            self.note(partition, ids);
        }
        self.topic().commit(&self.handles[self.handles.len() - 1..]).expect("committed");
        self.known.ends = [self.written[0].len() as u64, self.written[1].len() as u64];
        self.known.committed = self.handles.len();
        self.mark();
    }

    fn reopen(&mut self) {
        self.topics = open(&self.sim.env, FOLDER);
        let topic = self.topics.topic(&name("t")).expect("there");
        topic.partition(0).expect("sound");
        topic.partition(1).expect("sound");
        self.topic = Some(topic);
    }

    fn check_all(&self, trace: &Trace) -> usize {
        let mut states = 0;
        for state in trace.crash_states().chain(trace.random_crash_states(11, 3)) {
            states += 1;
            self.check(&state);
        }
        states
    }

    fn check(&self, state: &CrashState) {
        let known = state.last_mark().map_or(&self.marks[0], |mark| &self.marks[mark as usize]);
        let env = reboot(&self.sim, state);
        let topics = open(&env, FOLDER);
        let Some(topic) = topics.find(&name("t")).unwrap_or_else(|e| panic!("{e}: {state}")) else {
            assert!(!known.created, "a created topic is gone: {state}");
            return;
        };
        let mut found = [Vec::new(), Vec::new()];
        for (partition, found) in found.iter_mut().enumerate() {
            *found = self.check_partition(&topic, partition, known, state);
        }
        let claimed = known.prepared.min(self.handles.len());
        for (index, handle) in self.handles[..claimed].iter().enumerate() {
            if known.aborted.contains(&index) || index > known.committed {
                continue;
            }
            // Its commit may be replayed now, and any number of times.
            let Ok(first) = topic.commit(std::slice::from_ref(handle)) else {
                // The abort of an unclaimed handle had begun.
                assert!(index >= known.committed && self.marks.iter().any(|m| m.aborted.contains(&index)), "{state}");
                continue;
            };
            let again = topic.commit(std::slice::from_ref(handle)).unwrap_or_else(|e| panic!("{e}: {state}"));
            assert!(again.iter().all(|done| done.appended.was_done), "{state}");
            for done in first.iter().filter(|done| !done.appended.was_done) {
                let partition = done.partition as usize;
                let all = ids(&topic, done.partition).unwrap_or_else(|e| panic!("{e}: {state}"));
                let rows = done.appended.offsets.end - done.appended.offsets.start;
                assert_eq!(all.len(), found[partition].len() + rows as usize, "{state}");
                found[partition] = all;
            }
        }
        // Nothing stands twice, and the log goes on.
        for (partition, found) in found.iter_mut().enumerate() {
            let distinct: BTreeSet<i64> = found.iter().copied().collect();
            assert_eq!(distinct.len(), found.len(), "a row stands twice: {state}");
            topic
                .append(partition as u32, &rows([-7]), &AppendOptions::default())
                .unwrap_or_else(|e| panic!("{e}: {state}"));
            found.push(-7);
        }
        drop((topic, topics));
        let topic = open(&env, FOLDER).topic(&name("t")).expect("there");
        for (partition, found) in found.iter().enumerate() {
            let all = ids(&topic, partition as u32).unwrap_or_else(|e| panic!("{e}: {state}"));
            assert_eq!(all, *found, "reopening changes nothing: {state}");
        }
    }

    /// Gap-free, everything acknowledged, nothing else than what was written, whole runs.
    fn check_partition(&self, topic: &Topic, partition: usize, known: &Known, state: &CrashState) -> Vec<i64> {
        let found = ids(topic, partition as u32).unwrap_or_else(|e| panic!("{e}: {state}"));
        let handle = topic.partition(partition as u32).unwrap_or_else(|e| panic!("{e}: {state}"));
        let (first, end) = (handle.first_offset(), handle.end_offset());
        assert!(end >= known.ends[partition], "{} acknowledged, {end} kept: {state}", known.ends[partition]);
        assert!(self.boundaries[partition].contains(&end), "part of a run: {state}");
        assert!(self.boundaries[partition].contains(&first), "the log begins inside a run: {state}");
        assert_eq!(found, self.written[partition][first as usize..end as usize], "{state}");
        assert!(handle.owner().expect("writable").0 >= known.owner, "{state}");
        found
    }
}

#[test]
fn every_crash_of_appends_and_rolls() {
    let mut run = Run::new(1);
    run.create();
    for round in 0..8 {
        run.append(0, &[1, 2, 3]);
        run.append(round % 2, &[round + 1]);
    }
    assert!(run.topic().partition(0).expect("open").segments() > 1);
    let trace = run.sim.disk.take_trace();
    let states = run.check_all(&trace);
    assert!(states > 500, "{states} states");
}

#[test]
fn every_crash_of_staged_commits() {
    let mut run = Run::new(2);
    run.create();
    run.append(0, &[2]);
    run.commit(1, 1, [5, 3]);
    run.append(1, &[1, 1]);
    run.commit(1, 2, [0, 4]);
    run.commit(2, 3, [6, 0]);
    run.append(0, &[1]);
    let trace = run.sim.disk.take_trace();
    let states = run.check_all(&trace);
    assert!(states > 300, "{states} states");
}

#[test]
fn every_crash_of_an_abort() {
    let mut run = Run::new(3);
    run.create();
    run.commit(1, 1, [2, 2]);
    run.stage(1, 2, [3, 3]);
    let aborted = run.handles.len() - 1;
    run.topic().abort_lower(JobId(7), Generation(2), None, &BTreeSet::new()).expect("swept");
    run.known.aborted.insert(aborted);
    run.mark();
    // The attempt of the next generation at the same epoch.
    run.append(0, &[1]);
    let trace = run.sim.disk.take_trace();
    run.check_all(&trace);
}

#[test]
fn every_crash_of_retention() {
    let mut run = Run::new(4);
    run.create();
    run.commit(1, 1, [3, 1]);
    for _ in 0..22 {
        run.append(0, &[4]);
    }
    let partition = run.topic().partition(0).expect("open");
    assert!(partition.segments() >= 3);
    partition.retain(&Retention { bytes: Some(9 << 10), ..Retention::default() }).expect("removed");
    run.append(0, &[1]);
    let trace = run.sim.disk.take_trace();
    run.check_all(&trace);
}

#[test]
fn every_crash_of_takeover() {
    let mut run = Run::new(5);
    run.create();
    run.commit(1, 1, [3, 1]);
    run.append(0, &[2]);
    for owner in [5, 6] {
        run.topic().partition(0).expect("open").take_over(OwnerToken(owner)).expect("newer");
        run.topic().partition(1).expect("open").take_over(OwnerToken(owner)).expect("newer");
        run.known.owner = owner;
        run.mark();
        run.append(0, &[2, 1]);
    }
    let trace = run.sim.disk.take_trace();
    run.check_all(&trace);
}

/// What recovery itself does may be cut short as well.
#[test]
fn every_crash_of_recovery() {
    let mut run = Run::new(6);
    run.create();
    run.commit(1, 1, [2, 1]);
    for _ in 0..22 {
        run.append(0, &[4]);
    }
    let retention = Retention { bytes: Some(1), ..Retention::default() };
    assert!(run.topic().partition(0).expect("open").retain(&retention).expect("removed") > 1);
    run.append(0, &[3]);
    let before = run.marks.len() as u64 - 1;
    let trace = run.sim.disk.take_trace();
    let mut states = 0;
    for crash in trace.crash_states().filter(|state| state.last_mark() == Some(before) || state.prefix % 5 == 0) {
        let known = crash.last_mark().map_or(0, |mark| mark);
        crash.disk.record();
        crash.disk.mark(known);
        let env = reboot(&run.sim, &crash);
        if let Some(topic) = open(&env, FOLDER).find(&name("t")).expect("sound") {
            topic.partition(0).expect("sound");
            topic.partition(1).expect("sound");
        }
        for again in crash.disk.take_trace().crash_states() {
            states += 1;
            run.check(&again);
        }
    }
    assert!(states > 100, "{states} states");
}

/// A process that was killed leaves everything it wrote, synced or not: unlike after a power failure,
/// recovery must sync what it keeps.
#[test]
fn what_recovery_keeps_is_durable() {
    let mut run = Run::new(7);
    run.create();
    run.append(0, &[2]);
    run.sim.disk.fail_sync(1);
    let refused = run.topic().append(0, &rows([100]), &AppendOptions::default());
    assert!(refused.is_err());
    let refused = run.topic().append(0, &rows([101]), &AppendOptions::default()).expect_err("poisoned");
    assert_eq!(refused.code(), qanat_proto::Code::FsyncFailed);

    let mut run = Run::new(8);
    run.create();
    run.append(0, &[2]);
    // Written, its sync failed, the process dies: the bytes are read back, but are not on the disk.
    run.sim.disk.fail_sync(1);
    run.topic().append(0, &rows([100]), &AppendOptions::default()).expect_err("not acknowledged");
    run.reopen();
    let kept = ids(run.topic(), 0).expect("sound");
    run.sim.disk.crash(&crate::env::sim::CrashPlan::Nothing);
    run.reopen();
    assert_eq!(ids(run.topic(), 0).expect("sound"), kept);
}
