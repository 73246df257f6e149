use proptest::prelude::*;
use qanat_proto::ids::Epoch;

use super::*;
use crate::checkpoint::fixture::{JOB, file, manifest, origin, store};
use crate::env::Env;

fn object(job: JobId, generation: u64, epoch: u64, sequence: u64) -> String {
    format!("{STATE}/{}", origin(job, generation, epoch, 0).object(sequence))
}

fn key(generation: u64, epoch: u64) -> String {
    ManifestKey { job: JOB, epoch: Epoch(epoch), generation: Generation(generation), attempt: 0 }.to_string()
}

fn named(generation: u64, epoch: u64, objects: &[&str]) -> (String, Manifest) {
    (key(generation, epoch), manifest(JOB, generation, epoch, objects.iter().map(|name| file(name)).collect()))
}

#[test]
fn retired_objects_go_before_their_manifests_and_the_oldest_manifest_last() {
    let (a, b, c) = (object(JOB, 1, 1, 0), object(JOB, 1, 2, 0), object(JOB, 1, 3, 0));
    let inventory = Inventory {
        generations: [(JOB, Generation(1))].into(),
        live: vec![named(1, 3, &[&b, &c])],
        retired: vec![named(1, 1, &[&a]), named(1, 2, &[&a, &b])],
        state_objects: vec![a.clone(), b, c],
        ..Inventory::default()
    };
    assert_eq!(plan(&inventory), [a, key(1, 2), key(1, 1)]);
}

#[test]
fn what_is_live_other_jobs_and_the_current_generation_are_kept() {
    let (saved, shared) = (object(JOB, 1, 1, 0), object(JOB, 1, 1, 1));
    let (orphan, open) = (object(JOB, 1, 9, 0), object(JOB, 2, 9, 0));
    let foreign = object(JobId(99), 0, 1, 0);
    // A savepoint, say: older than what is retired.
    let kept = named(1, 1, &[&saved]);
    let copy = (
        ManifestKey { job: JobId(8), epoch: Epoch(1), generation: Generation(1), attempt: 0 }.to_string(),
        manifest(JobId(8), 1, 1, vec![file(&shared)]),
    );
    let unclaimed = ManifestKey { job: JOB, epoch: Epoch(9), generation: Generation(1), attempt: 5 };
    let inventory = Inventory {
        generations: [(JOB, Generation(2)), (JobId(8), Generation(1))].into(),
        live: vec![copy, kept],
        retired: vec![named(1, 2, &[&saved, &shared])],
        unreadable: vec![key(1, 3)],
        state_objects: vec![saved, shared, orphan.clone(), open, foreign, format!("{STATE}/notes.txt")],
        manifests: vec![unclaimed, ManifestKey { generation: Generation(2), ..unclaimed }],
    };
    assert_eq!(plan(&inventory), [orphan, unclaimed.to_string(), key(1, 3), key(1, 2)]);
}

#[test]
fn a_damaged_live_manifest_stops_the_collection() {
    let sim = Env::sim(1);
    let store = store(&sim.env);
    let mut jobs = JobCheckpoints { job: JOB, generation: Generation(2), live: vec![], retired: vec![] };
    let put = |epoch: u64, sequence: u64| {
        let object = store.put_state(&origin(JOB, 1, epoch, 0), sequence, "x".into()).expect("writes");
        store.put_manifest(&manifest(JOB, 1, epoch, vec![file(&object)]), 0).expect("writes")
    };
    let (first, second) = (put(1, 0), put(2, 0));
    jobs.retired = vec![first, (key(1, 7), "gone".to_owned())];
    jobs.live = vec![(second.0.clone(), "wrong".to_owned())];
    assert_eq!(collect(&store, std::slice::from_ref(&jobs)).expect_err("stops").code(), Code::CorruptCheckpoint);
    assert_eq!(store.list_state().expect("lists").len(), 2);
    jobs.live = vec![second];
    assert_eq!(collect(&store, std::slice::from_ref(&jobs)).expect("collects"), 2);
    assert_eq!(collect(&store, &[jobs]).expect("nothing is left to do"), 0);
    assert_eq!(store.list_state().expect("lists"), [object(JOB, 1, 2, 0)]);
}

proptest! {
    /// I17: nothing a live manifest names, no live manifest, and nothing of the current
    /// generation that was not retired.
    #[test]
    fn nothing_needed_is_deleted(
        manifests in prop::collection::vec((1_u64..4, any::<bool>(), prop::collection::vec((1_u64..4, 0_u64..6), 0..5)), 0..8),
        present in prop::collection::vec((1_u64..4, 0_u64..6), 0..12),
    ) {
        let mut inventory = Inventory { generations: [(JOB, Generation(3))].into(), ..Inventory::default() };
        let name = |(generation, sequence): &(u64, u64)| object(JOB, *generation, 1, *sequence);
        inventory.state_objects = present.iter().map(&name).collect();
        for (epoch, (generation, is_live, objects)) in (1..).zip(&manifests) {
            let objects: Vec<String> = objects.iter().map(&name).collect();
            let entry = named(*generation, epoch, &objects.iter().map(String::as_str).collect::<Vec<_>>());
            if *is_live { inventory.live.push(entry) } else { inventory.retired.push(entry) }
            inventory.manifests.push(key(*generation, epoch).parse().expect("a key"));
        }
        let deleted = plan(&inventory);
        for (key, manifest) in &inventory.live {
            prop_assert!(!deleted.contains(key));
            prop_assert!(objects_of(manifest).all(|object| !deleted.iter().any(|gone| gone == object)));
        }
        let retired: Vec<&str> = inventory.retired.iter().flat_map(|(_, manifest)| objects_of(manifest)).collect();
        for gone in deleted.iter().filter(|gone| gone.starts_with(STATE)) {
            prop_assert!(retired.contains(&gone.as_str()) || !gone.contains("-g3-"));
        }
        let first_manifest = deleted.iter().position(|gone| gone.starts_with("manifests")).unwrap_or(deleted.len());
        prop_assert!(deleted[first_manifest..].iter().all(|gone| gone.starts_with("manifests")));
    }
}
