//! Tasks of one generation in one process: a source that reads splits, a sink that counts and stages rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use qanat_executor_core::barrier::{Alignment, BarrierAligner};
use qanat_proto::control::{EdgeCount, OperatorReport, SubtaskReport};
use qanat_proto::ids::{Epoch, KeyGroupRange, SubtaskId, Token, owner_of};
use qanat_proto::manifest::{PreparedHandle, SinkChannel, SplitState, StateFile};
use qanat_proto::names::Origin;
use qanat_proto::receipt::{OperatorCounts, RowSum, SplitReceipt};

use super::folder::Folder;
use super::job::{SINK, SOURCE, group_of, hash_of, record, split_id, split_state};
use super::store::Store;

/// What goes through a channel.
#[derive(Clone, Debug)]
pub(super) enum Element {
    Rows(Vec<u64>),
    Barrier(Epoch),
}

#[derive(Clone, Debug)]
struct SplitAt {
    position: u64,
    /// At the barrier before.
    from: u64,
}

/// Subtask of the source.
#[derive(Clone, Debug)]
pub(super) struct SourceTask {
    pub(super) index: u32,
    splits: BTreeMap<usize, SplitAt>,
    pub(super) sealed: Epoch,
    sent: RowSum,
}

impl SourceTask {
    pub(super) fn new(index: u32, splits: &[(usize, u64)], sealed: Epoch) -> Self {
        let at = |(split, position): &(usize, u64)| (*split, SplitAt { position: *position, from: *position });
        Self { index, splits: splits.iter().map(at).collect(), sealed, sent: RowSum::default() }
    }

    /// Its splits that have records to be read, by their place among its own.
    pub(super) fn readable(&self, heads: &[u64]) -> Vec<usize> {
        let splits = self.splits.iter().enumerate();
        splits
            .filter(|(_, (split, at))| heads.get(**split).is_some_and(|head| at.position < *head))
            .map(|(place, _)| place)
            .collect()
    }

    /// Reads up to so many records of one split; rows by the sink subtask they go to.
    pub(super) fn read(
        &mut self,
        which: usize,
        count: u64,
        (heads, gone): (&[u64], &[u64]),
        (key_groups, sinks): (u16, u32),
    ) -> Result<BTreeMap<u32, Vec<u64>>, String> {
        let mut rows: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        let at = which % self.splits.len().max(1);
        let Some((split, state)) = self.splits.iter_mut().nth(at) else { return Ok(rows) };
        let (Some(head), Some(gone)) = (heads.get(*split), gone.get(*split)) else {
            return Err(format!("P9: split {split} is none of this job's"));
        };
        if state.position < *gone {
            return Err(format!("P15: split {split} is gone up to {gone}, and read from {}", state.position));
        }
        let until = (state.position + count).min(*head).max(state.position);
        for offset in state.position..until {
            let row = record(*split, offset);
            rows.entry(owner_of(group_of(row, key_groups), key_groups, sinks)).or_default().push(row);
            self.sent.add(RowSum { rows: 1, hash: hash_of(row) });
        }
        state.position = until;
        Ok(rows)
    }

    /// Notes where it stands: what is read from now on belongs to the next epoch.
    pub(super) fn seal(&mut self, epoch: Epoch, records: u64, key_groups: KeyGroupRange) -> SubtaskReport {
        self.sealed = epoch;
        let splits: Vec<SplitState> =
            self.splits.iter().map(|(split, at)| split_state(*split, at.position, records)).collect();
        let receipts = self.splits.iter().map(|(split, at)| SplitReceipt {
            id: split_id(*split),
            from: Arc::new(at.from.into()),
            to: Arc::new(at.position.into()),
            rows: at.position - at.from,
        });
        let split_receipts: Vec<SplitReceipt> = receipts.collect();
        let rows: u64 = split_receipts.iter().map(|receipt| receipt.rows).sum();
        let ended = splits.iter().all(|split| split.finished);
        self.splits.values_mut().for_each(|at| at.from = at.position);
        let sum = std::mem::take(&mut self.sent);
        SubtaskReport {
            parts: vec![OperatorReport {
                subtask: SubtaskId { operator: SOURCE, index: self.index },
                key_groups,
                watermark: None,
                counts: OperatorCounts { rows_in: rows, rows_out: rows, ..OperatorCounts::default() },
                splits,
                split_receipts,
                tables: vec![],
                prepared: vec![],
                sent: vec![EdgeCount { from: SOURCE, to: SINK, port: 0, sum }],
                received: vec![],
                ended,
            }],
        }
    }
}

/// The name of the object that a subtask writes for an epoch.
pub(super) fn state_object(origin: &Origin) -> String {
    format!("state/{}", origin.object(1))
}

/// Rows of each key group since epoch 0.
pub(super) type Counts = BTreeMap<u16, u64>;

/// Subtask of the sink: what it staged, and what it has counted.
#[derive(Clone, Debug)]
pub(super) struct SinkTask {
    pub(super) index: u32,
    pub(super) aligner: BarrierAligner,
    rows: Vec<u64>,
    received: RowSum,
    counted: Counts,
    key_groups: u16,
    files: Vec<StateFile>,
}

impl SinkTask {
    pub(super) fn new(
        index: u32,
        senders: u32,
        sealed: Epoch,
        key_groups: u16,
        (files, counted): (Vec<StateFile>, Counts),
    ) -> Self {
        Self {
            index,
            aligner: BarrierAligner::new(senders as usize, sealed),
            rows: Vec::new(),
            received: RowSum::default(),
            counted,
            key_groups,
            files,
        }
    }

    pub(super) fn take(&mut self, rows: &[u64]) {
        for row in rows {
            self.received.add(RowSum { rows: 1, hash: hash_of(*row) });
        }
        self.rows.extend(rows);
    }

    /// A barrier came; the report, if that completes the epoch.
    pub(super) fn barrier(
        &mut self,
        from: u32,
        epoch: Epoch,
        token: Token,
        key_groups: KeyGroupRange,
        (store, folder): (&mut Store, &mut Folder),
    ) -> Result<Option<(Epoch, SubtaskReport)>, String> {
        match self.aligner.barrier(from as usize, epoch).map_err(|e| e.to_string())? {
            Alignment::Waiting | Alignment::Repeated => Ok(None),
            Alignment::Complete(epoch) => Ok(Some((epoch, self.seal(epoch, token, key_groups, store, folder)))),
        }
    }

    fn seal(
        &mut self,
        epoch: Epoch,
        token: Token,
        key_groups: KeyGroupRange,
        store: &mut Store,
        folder: &mut Folder,
    ) -> SubtaskReport {
        let subtask = SubtaskId { operator: SINK, index: self.index };
        let origin = Origin { token, epoch, subtask };
        let sum = std::mem::take(&mut self.received);
        let rows = std::mem::take(&mut self.rows);
        let mut prepared = Vec::new();
        if !rows.is_empty() {
            for row in &rows {
                *self.counted.entry(group_of(*row, self.key_groups)).or_default() += 1;
            }
            let name = origin.object(0);
            folder.staged.insert(name.clone(), rows);
            let (channel, detail) = (SinkChannel::Table, serde_json::Value::Null);
            prepared.push(PreparedHandle { subtask, channel, name, sum, detail });
            // All of its state is one number, so the newest object tells everything.
            let object = state_object(&origin);
            store.objects.insert(object.clone(), self.counted.clone());
            let rows = 1;
            self.files = vec![StateFile {
                object,
                bytes: 8,
                crc: 0,
                rows,
                epoch,
                key_groups,
                expires_after: None,
                continues: false,
            }];
        }
        let counts = OperatorCounts { rows_in: sum.rows, rows_out: sum.rows, ..OperatorCounts::default() };
        SubtaskReport {
            parts: vec![OperatorReport {
                subtask,
                key_groups,
                watermark: None,
                counts,
                splits: vec![],
                split_receipts: vec![],
                tables: vec![("counted".to_owned(), self.files.clone())],
                prepared,
                sent: vec![],
                received: vec![EdgeCount { from: SOURCE, to: SINK, port: 0, sum }],
                ended: false,
            }],
        }
    }
}
