use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;
use crate::env::OpenMode;
use crate::suite::Scratch;

fn filled(scratch: &Scratch, count: u32) -> SledStore {
    open_or_rebuild(scratch.env(), &scratch.path().join("meta"), 1, |store| {
        for i in 0..count {
            store.apply(Batch::default().put(format!("key {i:05}"), format!("value {i}")))?;
        }
        Ok(())
    })
    .expect("builds")
}

/// A file of sled's own.
fn sled_file(scratch: &Scratch, name: &str) -> std::sync::Arc<dyn crate::env::File> {
    let disk = &scratch.env().disk;
    let inner = disk.list(&scratch.path().join("meta")).expect("lists").into_iter().find(|entry| entry.is_dir);
    let path = inner.expect("sled has a folder of its own").path.join(name);
    disk.open(&path, OpenMode::Write).expect("opens")
}

fn no_rebuild(_: &dyn KeyValue) -> qanat_proto::Result<()> {
    Err(qanat_proto::Error::internal("rebuilds without need"))
}

fn everything(store: &dyn KeyValue) -> Vec<Pair> {
    store.scan(Bound::Unbounded, Bound::Unbounded, usize::MAX).expect("scans")
}

fn contract(store: &dyn KeyValue) {
    assert_eq!(store.get(b"a").expect("gets"), None);
    store.apply(Batch::default().put("b", "2").put("a", "1").put("c", "3")).expect("applies");
    store.apply(Batch::default().remove("b").put("a", "x").put("a", "4").remove("none")).expect("applies");
    assert_eq!(store.get(b"a").expect("gets"), Some(b"4".to_vec()));
    assert_eq!(store.get(b"b").expect("gets"), None);
    let pair = |key: &str, value: &str| (key.as_bytes().to_vec(), value.as_bytes().to_vec());
    assert_eq!(everything(store), [pair("a", "4"), pair("c", "3")]);
    let scan = |from, to, limit| store.scan(from, to, limit).expect("scans");
    assert_eq!(scan(Bound::Excluded(&b"a"[..]), Bound::Unbounded, 9), [pair("c", "3")]);
    assert_eq!(scan(Bound::Included(&b"a"[..]), Bound::Excluded(b"c"), 9), [pair("a", "4")]);
    assert_eq!(scan(Bound::Unbounded, Bound::Included(&b"c"[..]), 1), [pair("a", "4")]);
    assert!(scan(Bound::Included(&b"c"[..]), Bound::Included(b"a"), 9).is_empty(), "an upside-down range is empty");
    assert!(scan(Bound::Excluded(&b"a"[..]), Bound::Excluded(b"a"), 9).is_empty());
    for batch in [
        Batch::default().put("", "x"),
        Batch::default().put(vec![0; KEY_BYTES_MAX + 1], "x"),
        Batch::default().put("ok", "x").put("d", vec![0; VALUE_BYTES_MAX + 1]),
    ] {
        assert!(matches!(store.apply(batch), Err(Error::Size { .. })));
    }
    assert_eq!(store.get(b"ok").expect("gets"), None, "nothing of a refused batch is applied");
    store.apply(Batch::default().put(vec![0], vec![7; VALUE_BYTES_MAX])).expect("the longest value is kept");
    assert_eq!(store.get(&[0]).expect("gets"), Some(vec![7; VALUE_BYTES_MAX]));
}

#[test]
fn both_stores_keep_the_contract() {
    contract(&MemoryStore::default());
    let scratch = Scratch::new();
    contract(&filled(&scratch, 0));
}

#[test]
fn a_complete_store_is_opened_and_not_rebuilt() {
    let scratch = Scratch::new();
    let folder = scratch.path().join("meta");
    let store = filled(&scratch, 100);
    store.apply(Batch::default().put("later", "1")).expect("applies");
    let locked = open_or_rebuild(scratch.env(), &folder, 1, no_rebuild).expect_err("is in use");
    assert_eq!(locked.code(), Code::DataFolderLocked);
    drop(store);
    let store = open_or_rebuild(scratch.env(), &folder, 1, no_rebuild).expect("opens");
    assert_eq!(everything(&store).len(), 101);
}

#[test]
fn another_version_and_an_unfinished_build_are_rebuilt() {
    let scratch = Scratch::new();
    let folder = scratch.path().join("meta");
    drop(filled(&scratch, 10));
    let error = SledStore::open(scratch.env(), &folder, 2).map(|_| ()).expect_err("is of another version");
    assert!(error.is_rebuildable() && qanat_proto::Error::from(error).code() == Code::UnknownVersion);
    let failed = open_or_rebuild(scratch.env(), &folder, 2, |store| {
        store.apply(Batch::default().put("half", "1"))?;
        Err(qanat_proto::Error::internal("the source cannot be read"))
    });
    assert!(failed.is_err());
    assert!(matches!(SledStore::open(scratch.env(), &folder, 2), Err(Error::Foreign { .. })), "half is not whole");
    let store = open_or_rebuild(scratch.env(), &folder, 2, |store| Ok(store.apply(Batch::default().put("new", "1"))?));
    assert_eq!(everything(&store.expect("builds")), [(b"new".to_vec(), b"1".to_vec())]);
}

#[test]
fn damage_is_an_error_that_says_so() {
    for place in [0u64, 100, 5_000, 20_000] {
        let scratch = Scratch::new();
        let folder = scratch.path().join("meta");
        let before = everything(&filled(&scratch, 500));
        let file = sled_file(&scratch, "db");
        let end = file.len().expect("has a length");
        file.write_all_at(&[0xA5; 64], place.min(end)).expect("damages");
        drop(file);
        match SledStore::open(scratch.env(), &folder, 1) {
            Ok(store) => assert_eq!(everything(&store), before, "damage at {place} passes for the truth"),
            Err(e) => assert!(e.is_rebuildable(), "damage at {place}: {e}"),
        }
        let rebuilt = filled(&scratch, 500);
        assert_eq!(everything(&rebuilt), before);
    }
    let scratch = Scratch::new();
    drop(filled(&scratch, 1));
    sled_file(&scratch, "conf").write_all_at(b"not a configuration", 0).expect("damages");
    let error = SledStore::open(scratch.env(), &scratch.path().join("meta"), 1).map(|_| ()).expect_err("is damaged");
    assert!(error.is_rebuildable(), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 16,
        rng_seed: RngSeed::Fixed(0x5EED),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// sled, closed and opened again between batches, holds what a map in memory holds.
    #[test]
    fn sled_agrees_with_memory(
        batches in prop::collection::vec(prop::collection::vec((0..20u8, prop::option::of(any::<u16>())), 0..12), 1..12)
    ) {
        let scratch = Scratch::new();
        let folder = scratch.path().join("meta");
        let memory = MemoryStore::default();
        drop(filled(&scratch, 0));
        for changes in batches {
            let store = open_or_rebuild(scratch.env(), &folder, 1, no_rebuild)?;
            let batch = changes.iter().fold(Batch::default(), |batch, (key, value)| match value {
                Some(value) => batch.put(vec![*key], value.to_le_bytes()),
                None => batch.remove(vec![*key]),
            });
            store.apply(batch.clone())?;
            memory.apply(batch)?;
            prop_assert_eq!(everything(&store), everything(&memory));
        }
    }
}
