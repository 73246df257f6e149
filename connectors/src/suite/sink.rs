//! Conformance of sinks: prepare, commit, replay, abort, in every order that the protocol allows.
//!
//! A sink's own tests call [`run`] with a [`Subject`] that opens it and looks at it as a reader would. What
//! holds for all exactly-once sinks is here; crash points of a particular store are in the sink's own
//! tests.

use std::sync::Arc;

use arrow::array::RecordBatch;
use qanat_executor_core::receipt::RowHasher;
use qanat_proto::control::CommitPermit;
use qanat_proto::error::Code;
use qanat_proto::ids::{Epoch, Generation, JobId, OperatorId, SubtaskId, Token};
use qanat_proto::manifest::{PreparedHandle, SinkChannel};
use qanat_proto::receipt::RowSum;

use crate::contract::{CommitScope, Sink};

/// A sink under test and a reader of what it writes to.
pub(crate) trait Subject {
    /// The sink, opened as a new process would. Its place keeps what it holds.
    fn open(&self) -> Arc<dyn Sink>;

    /// Some rows of the table, different for each `seed`.
    fn rows(&self, seed: u64) -> RecordBatch;

    /// Count and hash sum of all rows that a reader sees.
    fn visible(&self) -> RowSum;
}

const OPERATOR: OperatorId = OperatorId(0x51);

/// Proves a sink.
///
/// # Panics
/// If it does not hold what [`Sink`] asks for.
pub(crate) fn run(subject: &dyn Subject) {
    let mut suite = Suite { subject, job: JobId(0x1000), expected: subject.visible() };
    suite.nothing_shows_before_its_commit();
    suite.an_empty_epoch_has_no_handles();
    suite.a_replay_changes_nothing();
    suite.a_later_generation_completes_a_commit();
    suite.aborts_touch_lower_generations_alone();
    suite.a_permit_is_for_its_handles();
    suite.a_zombie_is_not_heard();
    suite.commits_leave_proof();
}

struct Suite<'a> {
    subject: &'a dyn Subject,
    /// Every case runs as a job of its own, in the same place.
    job: JobId,
    expected: RowSum,
}

impl Suite<'_> {
    fn next_job(&mut self) {
        self.job = JobId(self.job.0 + 1);
    }

    fn token(&self, generation: u64) -> Token {
        Token { job: self.job, generation: Generation(generation) }
    }

    fn scope(handles: &[PreparedHandle]) -> CommitScope {
        let channel = handles.first().map_or(SinkChannel::Table, |handle| handle.channel);
        CommitScope { operator: OPERATOR, channel }
    }

    /// Two subtasks' part of an epoch.
    fn prepare(&self, sink: &dyn Sink, generation: u64, epoch: u64, seed: u64) -> Vec<PreparedHandle> {
        let mut handles = Vec::new();
        for index in 0..2 {
            let subtask = SubtaskId { operator: OPERATOR, index };
            let mut writer = sink.writer(subtask, self.token(generation)).expect("opens a writer");
            let mut written = RowSum::default();
            for part in 0..2 {
                let rows = self.subject.rows(seed * 100 + u64::from(index) * 10 + part);
                written.add(RowHasher::default().sum(&rows).expect("a sum"));
                writer.write(Epoch(epoch), &rows).expect("writes");
            }
            let prepared = writer.prepare(Epoch(epoch)).expect("prepares");
            let mut staged = RowSum::default();
            prepared.iter().for_each(|handle| staged.add(handle.sum));
            assert_eq!(staged, written, "handles account for every row written");
            assert!(prepared.iter().all(|handle| handle.subtask == subtask));
            handles.extend(prepared);
        }
        let names: std::collections::BTreeSet<_> = handles.iter().map(|handle| &handle.name).collect();
        assert_eq!(names.len(), handles.len(), "names never collide (P3)");
        handles
    }

    fn permit(&self, generation: u64, epoch: u64, handles: &[PreparedHandle]) -> CommitPermit {
        let manifest_key = format!("{}/{epoch}", self.job);
        CommitPermit { token: self.token(generation), epoch: Epoch(epoch), manifest_key, handles: handles.to_vec() }
    }

    fn commit(&self, sink: &dyn Sink, generation: u64, epoch: u64, handles: &[PreparedHandle]) {
        let permit = self.permit(generation, epoch, handles);
        sink.commit(Self::scope(handles), &permit, handles).expect("commits");
    }

    fn expect(&mut self, handles: &[PreparedHandle]) {
        handles.iter().for_each(|handle| self.expected.add(handle.sum));
        self.check("after a commit");
    }

    fn check(&self, when: &str) {
        assert_eq!(self.subject.visible(), self.expected, "{when}");
    }

    fn nothing_shows_before_its_commit(&mut self) {
        self.next_job();
        let sink = self.subject.open();
        let first = self.prepare(sink.as_ref(), 1, 1, 1);
        self.check("prepared rows are invisible (I2)");
        // The barrier of the next epoch may flow before the commit of this one.
        let second = self.prepare(sink.as_ref(), 2, 2, 2);
        self.commit(sink.as_ref(), 2, 1, &first);
        self.expect(&first);
        self.commit(sink.as_ref(), 2, 2, &second);
        self.expect(&second);
    }

    fn an_empty_epoch_has_no_handles(&mut self) {
        self.next_job();
        let sink = self.subject.open();
        let subtask = SubtaskId { operator: OPERATOR, index: 0 };
        let mut writer = sink.writer(subtask, self.token(1)).expect("opens a writer");
        assert_eq!(writer.prepare(Epoch(1)).expect("prepares"), vec![]);
        writer.write(Epoch(2), &self.subject.rows(1).slice(0, 0)).expect("writes nothing");
        assert_eq!(writer.prepare(Epoch(2)).expect("prepares"), vec![]);
        self.commit(sink.as_ref(), 1, 1, &[]);
        self.check("an empty commit shows nothing");
        writer.write(Epoch(3), &self.subject.rows(2)).expect("writes");
        let handles = writer.prepare(Epoch(3)).expect("prepares");
        self.commit(sink.as_ref(), 1, 3, &handles);
        self.expect(&handles);
    }

    fn a_replay_changes_nothing(&mut self) {
        self.next_job();
        let sink = self.subject.open();
        let handles = self.prepare(sink.as_ref(), 1, 1, 3);
        self.commit(sink.as_ref(), 1, 1, &handles);
        self.expect(&handles);
        self.commit(sink.as_ref(), 1, 1, &handles);
        self.commit(self.subject.open().as_ref(), 2, 1, &handles);
        self.check("a replay by a later generation changes nothing (I5)");
    }

    fn a_later_generation_completes_a_commit(&mut self) {
        self.next_job();
        let handles = self.prepare(self.subject.open().as_ref(), 1, 1, 4);
        // The process died between the claim and the commit.
        let next = self.subject.open();
        next.abort_lower(Self::scope(&handles), self.token(2), &handles).expect("aborts the rest");
        self.commit(next.as_ref(), 2, 1, &handles);
        self.expect(&handles);
    }

    fn aborts_touch_lower_generations_alone(&mut self) {
        self.next_job();
        let sink = self.subject.open();
        let lost = self.prepare(sink.as_ref(), 1, 1, 5);
        let kept = self.prepare(sink.as_ref(), 2, 1, 6);
        sink.abort_lower(Self::scope(&lost), self.token(2), &[]).expect("aborts");
        sink.abort_lower(Self::scope(&lost), self.token(2), &[]).expect("an abort may be repeated");
        // A paused lower generation wakes up and aborts by its own idea of things (P6).
        sink.abort_lower(Self::scope(&lost), self.token(1), &[]).expect("aborts nothing");
        self.commit(sink.as_ref(), 2, 1, &kept);
        self.expect(&kept);
        let gone = sink.commit(Self::scope(&lost), &self.permit(3, 2, &lost), &lost);
        self.check("what was aborted never shows");
        // Whether it is refused or known to be superseded, it must not count as committed rows.
        let _ = gone;
    }

    fn a_permit_is_for_its_handles(&mut self) {
        self.next_job();
        let sink = self.subject.open();
        let handles = self.prepare(sink.as_ref(), 1, 1, 7);
        let permit = self.permit(1, 1, &handles[..1]);
        let error = sink.commit(Self::scope(&handles), &permit, &handles).expect_err("not in the permit (P2)");
        assert_eq!(error.code(), Code::Invariant);
        self.check("a commit beyond its permit shows nothing");
        self.commit(sink.as_ref(), 1, 1, &handles);
        self.expect(&handles);
    }

    fn a_zombie_is_not_heard(&mut self) {
        self.next_job();
        let zombie = self.subject.open();
        let first = self.prepare(zombie.as_ref(), 1, 1, 8);
        let subtask = SubtaskId { operator: OPERATOR, index: 5 };
        let mut writer = zombie.writer(subtask, self.token(1)).expect("opens a writer");
        writer.write(Epoch(2), &self.subject.rows(900)).expect("writes");
        let sink = self.subject.open();
        self.commit(sink.as_ref(), 2, 1, &first);
        self.expect(&first);
        sink.abort_lower(Self::scope(&first), self.token(2), &first).expect("aborts");
        let second = self.prepare(sink.as_ref(), 2, 2, 9);
        self.commit(sink.as_ref(), 2, 2, &second);
        self.expect(&second);
        // It wakes up in the middle of its epoch, and of its commit.
        let _ = writer.prepare(Epoch(2));
        let permit = self.permit(1, 1, &first);
        zombie.commit(Self::scope(&first), &permit, &first).expect("done already");
        zombie.abort_lower(Self::scope(&first), self.token(1), &[]).expect("aborts nothing");
        self.check("a zombie changes nothing that a reader sees (I4)");
    }

    fn commits_leave_proof(&mut self) {
        self.next_job();
        let sink = self.subject.open();
        let first = self.prepare(sink.as_ref(), 1, 1, 10);
        let scope = Self::scope(&first);
        let newest = |subject: &dyn Subject, job| subject.open().newest_commit(scope, job).expect("looks");
        assert_eq!(newest(self.subject, self.job), None, "what is prepared proves nothing");
        self.commit(sink.as_ref(), 1, 1, &first);
        self.expect(&first);
        let second = self.prepare(sink.as_ref(), 1, 2, 11);
        self.commit(sink.as_ref(), 1, 2, &second);
        self.expect(&second);
        let lost = self.prepare(sink.as_ref(), 1, 3, 12);
        self.commit(sink.as_ref(), 2, 2, &second);
        let proof = Some(Epoch(2));
        assert_eq!(newest(self.subject, self.job), proof, "a lost claim is noticed");
        assert_eq!(newest(self.subject, JobId(self.job.0 + 1)), None, "a job speaks for itself");
        sink.abort_lower(scope, self.token(2), &[]).expect("aborts");
        drop(lost);
        assert_eq!(newest(self.subject, self.job), proof, "an abort takes no proof away");
    }
}
