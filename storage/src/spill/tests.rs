use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::env::OpenMode;

type Write = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Some writes of keys, each with a value or gone, and whether merges follow.
fn writes() -> impl Strategy<Value = Vec<(Write, bool)>> {
    let key = prop::collection::vec(0_u8..3, 1..4);
    let value = prop::option::weighted(
        0.7,
        prop_oneof![
            9 => prop::collection::vec(any::<u8>(), 0..40),
            1 => prop::collection::vec(any::<u8>(), 3_000..9_000),
        ],
    );
    prop::collection::vec((prop::collection::vec((key, value), 0..20), any::<bool>()), 0..40)
}

fn found(space: &Space, keys: &Keys) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let found = space.read(keys).expect("reads");
    found.iter().filter_map(|(key, value)| Some((key.to_vec(), value?.to_vec()))).collect()
}

fn keys() -> Keys {
    let mut keys = Keys::default();
    (0..27_u8).for_each(|n| keys.push(&[n / 9, n / 3 % 3, n % 3]));
    (0..9_u8).for_each(|n| keys.push(&[n / 3, n % 3]));
    (0..4).for_each(|n| keys.push(&[n]));
    keys
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_space_has_what_was_written_last(writes in writes()) {
        let sim = Env::sim(1);
        let store = Store::new(&sim.env, "/spill/a");
        let space = store.space().expect("opens");
        let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for (write, merges) in &writes {
            let mut entries = Entries::default();
            for (key, value) in write {
                match value {
                    Some(value) => {
                        entries.put(key, |bytes| bytes.extend_from_slice(value));
                        model.insert(key.clone(), value.clone());
                    }
                    None => {
                        entries.remove(key);
                        model.remove(key);
                    }
                }
            }
            space.write(&entries).expect("writes");
            while *merges && space.merge().expect("merges") {}
            prop_assert_eq!(&found(&space, &keys()), &model);
        }
    }
}

#[test]
fn many_entries_make_few_runs_and_keys_that_are_gone_leave_nothing() {
    let sim = Env::sim(2);
    let store = Store::new(&sim.env, "/spill/a");
    let space = store.space().expect("opens");
    let key = |n: u64| n.wrapping_mul(7_919).to_le_bytes();
    let runs = || crate::env::thread::lock(&space.0.runs).len();
    for round in 0..70_u64 {
        let mut entries = Entries::default();
        (0..500).for_each(|n| entries.put(&key(n * 3 + round), |bytes| bytes.extend_from_slice(&round.to_le_bytes())));
        space.write(&entries).expect("writes");
        while space.merge().expect("merges") {}
        assert!(runs() <= 3 * 4, "{} runs after {round}", runs());
    }
    let mut wanted = Keys::default();
    (0..1_600).for_each(|n| wanted.push(&key(n)));
    let newest =
        |n: u64| (0..70_u64).rev().find(|round| n >= *round && (n - round).is_multiple_of(3) && (n - round) / 3 < 500);
    let model = (0..1_600).filter_map(|n| Some((key(n).to_vec(), newest(n)?.to_le_bytes().to_vec()))).collect();
    assert_eq!(found(&space, &wanted), model);
    // With these it has been written 256 times: all is merged into one.
    for _ in 70..256 {
        let mut entries = Entries::default();
        (0..1_600).for_each(|n| entries.remove(&key(n)));
        space.write(&entries).expect("writes");
        while space.merge().expect("merges") {}
    }
    assert_eq!((runs(), space.bytes()), (0, 0));
}

#[test]
fn files_go_with_the_space_and_what_is_left_over_is_removed() {
    let sim = Env::sim(3);
    let root = Path::new("/spill");
    Store::clear(&sim.env, root).expect("nothing is there");
    let store = Store::new(&sim.env, "/spill/a");
    let (a, b) = (store.space().expect("opens"), store.space().expect("opens"));
    let mut entries = Entries::default();
    entries.put(&[1], |bytes| bytes.push(1));
    a.write(&entries).expect("writes");
    assert_eq!((found(&a, &keys()).len(), found(&b, &keys()).len()), (1, 0), "spaces are apart");
    assert!(sim.env.disk.list(Path::new("/spill/a")).expect("lists").is_empty(), "files have no names");
    drop((a, b, store));
    assert!(sim.env.disk.list(root).expect("lists").is_empty());
    sim.env.disk.create_dir_all(Path::new("/spill/a/b")).expect("makes");
    sim.env.disk.open(Path::new("/spill/a/b/c"), OpenMode::CreateNew).expect("makes");
    Store::clear(&sim.env, root).expect("clears");
    assert!(sim.env.disk.list(root).expect("lists").is_empty());
}

#[test]
fn every_flipped_bit_is_found() {
    let sim = Env::sim(4);
    let store = Store::new(&sim.env, "/spill/a");
    let space = store.space().expect("opens");
    let mut entries = Entries::default();
    (0..3_u8).for_each(|n| entries.put(&[n], |bytes| bytes.extend_from_slice(&[n; 5])));
    space.write(&entries).expect("writes");
    let file = crate::env::thread::lock(&space.0.runs)[0].file.clone();
    let length = file.len().expect("a length");
    for bit in 0..length * 8 {
        let mut byte = [0];
        file.read_exact_at(&mut byte, bit / 8).expect("reads");
        file.write_all_at(&[byte[0] ^ (1 << (bit % 8))], bit / 8).expect("writes");
        let error = space.read(&keys()).map(|found| found.len()).expect_err("it is damaged");
        assert_eq!(error.code(), qanat_proto::Code::CorruptCheckpoint);
        file.write_all_at(&byte, bit / 8).expect("writes");
    }
    assert_eq!(found(&space, &keys()).len(), 3);
}
