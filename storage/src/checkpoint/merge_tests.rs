//! Merging files beside the epochs, with the collector at work: what is claimed can be restored after a
//! crash at any moment (I7, I17, P14).

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::datatypes::Int64Type;
use qanat_proto::ids::Generation;

use super::fixture::{JOB, files_of, manifest, origin, range, store};
use super::gc::{self, JobCheckpoints};
use super::{CheckpointStore, StateWriter};
use crate::env::Env;
use crate::state::{Table, testing};

/// More than a table may list, so that several merges are due.
const EPOCHS: u64 = 36;

/// Time and value by key: what the table comes to.
type Rows = Vec<(i64, i64)>;

fn read(store: &CheckpointStore, key: &str, checksum: &str) -> qanat_proto::error::Result<Rows> {
    let manifest = store.read_manifest(key, checksum)?;
    let mut table = Table::restored(testing::spec(false), range(0, 8), files_of(&manifest));
    let mut rows = Rows::new();
    table.read(store, &mut |batch| {
        let column = |index: usize| batch.column(index).as_primitive::<Int64Type>().values().to_vec();
        rows.extend(column(2).into_iter().zip(column(3)));
        Ok(())
    })?;
    rows.sort_unstable();
    Ok(rows)
}

/// Runs the epochs. A merge begins behind an epoch, ends `lag` epochs later, and old manifests are retired
/// and collected all the while. The claims: key and checksum of each epoch, with the rows it stands for.
fn run(store: &CheckpointStore, lag: u64, claimed: &mut dyn FnMut(u64)) -> Vec<((String, String), Rows)> {
    let mut table = Table::new(testing::spec(false), range(0, 8));
    let mut model: BTreeMap<u8, (i64, i64)> = BTreeMap::new();
    let mut claims: Vec<((String, String), Rows)> = Vec::new();
    let mut merging = None;
    let mut merges = 0;
    for epoch in 1..=EPOCHS {
        let mut writer = StateWriter::new(store, origin(JOB, 1, epoch, 0));
        let (new, again, gone) = (epoch as u8, (epoch / 2) as u8, (epoch / 3) as u8);
        let time = epoch as i64 * 10;
        let closed = (epoch % 5 == 0).then(|| time - 150);
        let rows = [(new, time, time), (again, time, -time)];
        table.write(&testing::delta(&rows, &[gone], closed), &mut writer).expect("writes");
        model.remove(&gone);
        model.extend(rows.map(|(key, time, value)| (key, (time, value))));
        model.retain(|_, (time, _)| *time > EPOCHS.min(epoch / 5 * 5) as i64 * 10 - 150);
        let key = store.put_manifest(&manifest(JOB, 1, epoch, table.files().to_vec()), 0).expect("writes");
        let mut rows: Rows = model.values().copied().collect();
        rows.sort_unstable();
        claims.push((key, rows));
        claimed(epoch);
        // What is written beside the epochs: the merge, under names that follow those of the epoch.
        if merging.is_none()
            && let Some(due) = table.compaction()
        {
            let mut writer = StateWriter::resume(store, origin(JOB, 1, epoch, 0), writer.sequence());
            merging = Some((epoch + lag, due.run(store, &mut writer, crate::state::SLICE_BYTES).expect("merges")));
        }
        let live = claims.len().saturating_sub(2);
        let jobs = JobCheckpoints {
            job: JOB,
            generation: Generation(1),
            live: claims[live..].iter().map(|claim| claim.0.clone()).collect(),
            retired: claims[..live].iter().map(|claim| claim.0.clone()).collect(),
        };
        gc::collect(store, &[jobs]).expect("collects");
        if let Some((_, merged)) = merging.take_if(|(end, _)| *end == epoch) {
            table.replace(merged);
            merges += 1;
        }
    }
    assert!(merges > 1, "{merges} merges");
    claims
}

#[test]
fn a_claim_outlives_a_crash_at_any_moment_of_a_merge() {
    const LAG: u64 = 2;
    let sim = Env::sim(9);
    let before = store(&sim.env);
    sim.disk.record();
    let claims = run(&before, LAG, &mut |epoch| sim.disk.mark(epoch));
    let (mut states, mut restored) = (0, 0);
    for state in sim.disk.take_trace().crash_states() {
        states += 1;
        let env = Env { disk: Arc::new(state.disk.clone()), ..sim.env.clone() };
        let after = store(&env);
        let Some(last) = state.last_mark() else { continue };
        let ((key, checksum), rows) = &claims[last as usize - 1];
        assert_eq!(&read(&after, key, checksum).expect("restores"), rows, "{state}");
        // The next generation collects what the crash left; its restore point stays whole.
        let jobs = JobCheckpoints {
            job: JOB,
            generation: Generation(2),
            live: vec![(key.clone(), checksum.clone())],
            retired: Vec::new(),
        };
        gc::collect(&after, &[jobs]).expect("collects");
        assert_eq!(&read(&after, key, checksum).expect("restores"), rows, "{state}");
        let named = after.read_manifest(key, checksum).expect("reads");
        assert_eq!(after.list_state().expect("lists").len(), files_of(&named).len(), "orphans are left: {state}");
        restored += 1;
    }
    assert!(restored > 200, "{states} states, {restored} restored");
}
