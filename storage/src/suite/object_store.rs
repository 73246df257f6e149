//! What the checkpoint store promises, on top of the `object_store` trait's own documentation.

use std::sync::{Arc, Barrier};
use std::thread;

use bytes::Bytes;
use futures::executor::block_on;
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    UpdateVersion,
};

use crate::env::Env;
use crate::object::{Objects, Put};

/// Races per store: enough to meet both orders of every pair of steps.
const RACES: usize = 24;

/// Puts an empty store through its contract while nothing fails.
///
/// # Panics
/// If the contract does not hold.
pub fn object_store(store: Arc<dyn ObjectStore>) {
    block_on(async {
        puts_and_gets(store.as_ref()).await;
        updates(store.as_ref()).await;
        lists(store.as_ref()).await;
        deletes_and_copies(store.as_ref()).await;
        uploads(store.as_ref()).await;
    });
    races(&store);
}

/// Puts a store through every crash of a put, a replacement and a deletion. `open` opens the store of an
/// environment, as a process does when it starts.
///
/// # Panics
/// If an object is ever seen in part, an acknowledged one is lost, or a deleted one comes back.
pub fn object_store_crashes(open: impl Fn(&Env) -> Arc<dyn ObjectStore>) {
    let sim = Env::sim(1);
    let first: Bytes = (0..2500u32).map(|i| (i % 250) as u8 + 1).collect();
    let second = Bytes::from_static(b"second");
    sim.disk.record();
    let objects = Objects::new(open(&sim.env));
    assert_eq!(objects.put_new("job/1/state", first.clone()).expect("puts"), Put::Written);
    sim.disk.mark(1);
    assert_eq!(objects.put_new("job/1/state", Bytes::from_static(b"other")).expect("puts"), Put::Exists);
    objects.replace("job/1/state", second.clone()).expect("replaces");
    sim.disk.mark(2);
    assert!(objects.delete("job/1/state").expect("deletes"));
    sim.disk.mark(3);

    let trace = sim.disk.take_trace();
    for state in trace.crash_states().chain(trace.random_crash_states(5, 10)) {
        let env = Env { disk: Arc::new(state.disk.clone()), ..Env::sim(1).env };
        let objects = Objects::new(open(&env));
        let found = objects.find("job/1/state").expect("reads");
        let allowed = match state.last_mark() {
            None => [None, Some(&first)],
            Some(1) => [Some(&first), Some(&second)],
            Some(2) => [Some(&second), None],
            Some(_) => [None, None],
        };
        assert!(allowed.contains(&found.as_ref()), "{state}");
        assert_eq!(objects.list("").expect("lists").len(), usize::from(found.is_some()), "{state}");
        // The store is usable at once, whatever was left behind.
        assert_eq!(objects.put_new("job/2/state", first.clone()).expect("puts"), Put::Written, "{state}");
        assert_eq!(objects.get("job/2/state").expect("reads"), first, "{state}");
    }
}

fn with_mode(mode: PutMode) -> PutOptions {
    PutOptions { mode, ..PutOptions::default() }
}

async fn text(store: &dyn ObjectStore, key: &str) -> String {
    let bytes = store.get(&Path::from(key)).await.expect("is there").bytes().await.expect("reads");
    String::from_utf8(bytes.to_vec()).expect("is text")
}

async fn puts_and_gets(store: &dyn ObjectStore) {
    let key = Path::from("gets/a");
    assert!(matches!(store.get(&key).await, Err(Error::NotFound { .. })), "getting nothing");
    assert!(matches!(store.head(&key).await, Err(Error::NotFound { .. })), "looking at nothing");
    store.put_opts(&key, "0123456789".into(), with_mode(PutMode::Create)).await.expect("puts");
    let again = store.put_opts(&key, "other".into(), with_mode(PutMode::Create)).await;
    assert!(matches!(again, Err(Error::AlreadyExists { .. })), "creating what is there");
    assert_eq!(text(store, "gets/a").await, "0123456789");

    let head = store.head(&key).await.expect("is there");
    assert_eq!((head.size, &head.location), (10, &key));
    assert_eq!(store.get_range(&key, 2..5).await.expect("reads"), "234");
    assert_eq!(store.get_range(&key, 8..50).await.expect("reads"), "89", "a range is cut at the end");
    let ranges = store.get_ranges(&key, &[0..1, 9..10, 3..3 + 4]).await.expect("reads");
    assert_eq!(ranges, ["0", "9", "3456"]);
    for (range, expected) in
        [(GetRange::Offset(7), "789"), (GetRange::Suffix(2), "89"), (GetRange::Suffix(50), "0123456789")]
    {
        let got = store.get_opts(&key, GetOptions { range: Some(range), ..GetOptions::default() }).await;
        assert_eq!(got.expect("is there").bytes().await.expect("reads"), expected);
    }
    assert!(store.get_range(&key, 10..12).await.is_err(), "a range behind the end");

    let large: Vec<u8> = (0..9_000_000u32).map(|i| (i >> 8) as u8 ^ i as u8).collect();
    let parts: PutPayload = large.chunks(1_000_003).map(Bytes::copy_from_slice).collect();
    store.put(&Path::from("gets/large"), parts).await.expect("puts");
    let got = store.get(&Path::from("gets/large")).await.expect("is there").bytes().await.expect("reads");
    assert!(got == large, "a large object comes back");
    let got = store.get_range(&Path::from("gets/large"), 4_000_000..8_500_000).await.expect("reads");
    assert!(got == large[4_000_000..8_500_000], "a large range comes back");
    store.put(&Path::from("gets/empty"), PutPayload::new()).await.expect("puts");
    assert_eq!(text(store, "gets/empty").await, "");
}

async fn updates(store: &dyn ObjectStore) {
    let key = Path::from("updates/a");
    let version = |e_tag: Option<String>| with_mode(PutMode::Update(UpdateVersion { e_tag, version: None }));
    let first = store.put(&key, "1".into()).await.expect("puts").e_tag.expect("a small object has a tag");
    assert_eq!(store.head(&key).await.expect("is there").e_tag.as_ref(), Some(&first));
    let second = store.put_opts(&key, "2".into(), version(Some(first.clone()))).await.expect("updates").e_tag;
    let stale = store.put_opts(&key, "3".into(), version(Some(first.clone()))).await;
    assert!(matches!(stale, Err(Error::Precondition { .. })), "updating an older version");
    let missing = store.put_opts(&Path::from("updates/b"), "3".into(), version(second.clone())).await;
    assert!(matches!(missing, Err(Error::Precondition { .. })), "updating nothing");
    assert_eq!(text(store, "updates/a").await, "2");

    let get = |options: GetOptions| store.get_opts(&key, options);
    let wrong = get(GetOptions { if_match: Some(first), ..GetOptions::default() }).await;
    assert!(matches!(wrong, Err(Error::Precondition { .. })));
    let same = get(GetOptions { if_none_match: second.clone(), ..GetOptions::default() }).await;
    assert!(matches!(same, Err(Error::NotModified { .. })));
    get(GetOptions { if_match: second, ..GetOptions::default() }).await.expect("matches");
}

async fn keys(store: &dyn ObjectStore, prefix: Option<&str>) -> Vec<String> {
    let prefix = prefix.map(Path::from);
    let found: Vec<ObjectMeta> = store.list(prefix.as_ref()).try_collect().await.expect("lists");
    let mut keys: Vec<String> = found.into_iter().map(|meta| meta.location.to_string()).collect();
    keys.sort();
    keys
}

async fn lists(store: &dyn ObjectStore) {
    for key in ["lists/a/1", "lists/a/2", "lists/a-b/3", "lists/ab/c/4", "lists/5"] {
        store.put(&Path::from(key), key.to_string().into()).await.expect("puts");
    }
    let all = ["lists/5", "lists/a-b/3", "lists/a/1", "lists/a/2", "lists/ab/c/4"];
    assert_eq!(keys(store, Some("lists")).await, all);
    assert_eq!(keys(store, Some("lists/a")).await, ["lists/a/1", "lists/a/2"], "whole segments only");
    assert!(keys(store, Some("lists/5")).await.is_empty(), "an object is not below itself");
    assert!(keys(store, Some("lists/none")).await.is_empty());
    assert!(keys(store, None).await.len() >= all.len());
    let after: Vec<ObjectMeta> = store
        .list_with_offset(Some(&Path::from("lists")), &Path::from("lists/a/1"))
        .try_collect()
        .await
        .expect("lists");
    assert_eq!(after.len(), 2);

    let level = store.list_with_delimiter(Some(&Path::from("lists"))).await.expect("lists");
    let mut prefixes = level.common_prefixes;
    prefixes.sort();
    assert_eq!(prefixes, ["lists/a", "lists/a-b", "lists/ab"].map(Path::from));
    assert_eq!(level.objects.len(), 1);
    assert_eq!((level.objects[0].location.as_ref(), level.objects[0].size), ("lists/5", 7));
}

async fn deletes_and_copies(store: &dyn ObjectStore) {
    let key = |name: &str| Path::from(format!("copies/{name}"));
    let nothing = store.delete(&key("a")).await;
    assert!(matches!(nothing, Err(Error::NotFound { .. })), "deleting nothing: {nothing:?}");
    assert!(matches!(store.copy(&key("a"), &key("b")).await, Err(Error::NotFound { .. })), "copying nothing");
    store.put(&key("a"), "1".into()).await.expect("puts");
    store.copy(&key("a"), &key("b")).await.expect("copies");
    store.put(&key("a"), "2".into()).await.expect("puts");
    assert_eq!(text(store, "copies/b").await, "1", "a copy is independent");
    assert!(matches!(store.copy_if_not_exists(&key("a"), &key("b")).await, Err(Error::AlreadyExists { .. })));
    store.copy_if_not_exists(&key("a"), &key("c")).await.expect("copies");
    store.copy(&key("a"), &key("b")).await.expect("replaces");
    store.copy(&key("a"), &key("b")).await.expect("replaces by the same");
    assert_eq!((text(store, "copies/b").await, text(store, "copies/c").await), ("2".into(), "2".into()));
    store.rename(&key("a"), &key("d")).await.expect("renames");
    assert_eq!(keys(store, Some("copies")).await, ["copies/b", "copies/c", "copies/d"]);

    let gone: Vec<_> =
        store.delete_stream(stream::iter([Ok(key("b")), Ok(key("c"))]).boxed()).try_collect().await.expect("deletes");
    assert_eq!(gone, [key("b"), key("c")]);
    store.delete(&key("d")).await.expect("deletes");
    assert!(keys(store, Some("copies")).await.is_empty());
}

async fn uploads(store: &dyn ObjectStore) {
    let key = Path::from("uploads/a");
    let mut upload = store.put_multipart(&key).await.expect("starts");
    let (first, second) = (upload.put_part("one ".into()), upload.put_part("two".into()));
    second.await.expect("writes");
    first.await.expect("writes");
    assert!(matches!(store.head(&key).await, Err(Error::NotFound { .. })), "nothing is seen before the end");
    upload.complete().await.expect("completes");
    assert_eq!(text(store, "uploads/a").await, "one two");
    let mut upload = store.put_multipart(&Path::from("uploads/b")).await.expect("starts");
    upload.put_part("lost".into()).await.expect("writes");
    upload.abort().await.expect("aborts");
    assert_eq!(keys(store, Some("uploads")).await, ["uploads/a"]);
}

/// Of two threads that create one key exactly one wins, and its bytes are there.
fn races(store: &Arc<dyn ObjectStore>) {
    for race in 0..RACES {
        let key = Path::from(format!("races/{race}"));
        let barrier = Barrier::new(2);
        let attempt = |name: &'static str| {
            barrier.wait();
            match block_on(store.put_opts(&key, name.into(), with_mode(PutMode::Create))) {
                Ok(_) => Some(name),
                Err(Error::AlreadyExists { .. }) => None,
                Err(e) => panic!("a race ends in an error: {e}"),
            }
        };
        let winners = thread::scope(|scope| {
            let threads = ["left", "right"].map(|name| {
                scope.spawn({
                    let attempt = &attempt;
                    move || attempt(name)
                })
            });
            threads.map(|thread| thread.join().expect("does not panic"))
        });
        let winners: Vec<&str> = winners.into_iter().flatten().collect();
        assert_eq!(winners.len(), 1, "race {race}: {winners:?}");
        assert_eq!(Some(&block_on(text(store.as_ref(), key.as_ref())).as_str()), winners.first(), "race {race}");
    }
}
