//! A job with a lookup join on two executors: both join with the rows that the table had when the job was submitted,
//! also after one of them has died.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::folder::Folder;
use crate::neighbours::Dev;
use crate::sink;

/// Whatever is waited for comes in this time.
const PATIENCE: Duration = Duration::from_secs(90);

#[test]
fn executors_join_with_one_version_of_a_lookup_table() {
    const ROWS: u64 = 20_000;
    const KEYS: u64 = 50;
    let folder = Folder::new("spread-lookup");
    let out = folder.path().join("out");
    let dev = Dev::start(&folder);
    let names = |version: &str| (0..KEYS).map(|key| format!("{key},{version}-{key}\n")).collect::<String>();
    folder.write("names.csv", names("first"));
    folder.write(
        "q.sql",
        format!(
            "SET 'execution.checkpointing.interval' = '100 ms';\n\
             CREATE TABLE g (id BIGINT, t AS PROCTIME()) WITH ('connector' = 'datagen', 'fields.id.kind' = 'sequence', \
             'fields.id.start' = '0', 'fields.id.end' = '{}', 'rows-per-second' = '2000');\n\
             CREATE TABLE names (k BIGINT, name STRING) WITH ('connector' = 'filesystem', 'path' = '{}', \
             'format' = 'csv', 'csv.header' = 'false');\n\
             CREATE TABLE o (id BIGINT, name STRING) WITH ('connector' = 'filesystem', 'path' = '{}', \
             'format' = 'csv');\n\
             INSERT INTO o SELECT g.id, n.name FROM g JOIN names FOR SYSTEM_TIME AS OF g.t AS n ON g.id % {KEYS} = n.k;\n",
            ROWS - 1,
            folder.path().join("names.csv").display(),
            out.display()
        ),
    );
    let second = dev.second_executor(&folder, 4);
    let until = |what: &str, is_so: &dyn Fn() -> bool| {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < PATIENCE, "{what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let attached = || {
        let status = dev.ask(&folder, &["cluster", "status"]);
        status["executors"].as_array().unwrap().iter().filter(|executor| executor["attached"] == true).count()
    };
    until("two executors", &|| attached() == 2);
    dev.ask(&folder, &["submit", "q.sql", "--parallelism", "8"]);
    // What the table becomes later is no matter: neither to an executor that begins later, nor after a death.
    folder.write("names.csv", names("second"));
    until("it runs on both", &|| {
        dev.ask(&folder, &["job", "describe", "q"])["executors"]
            .as_array()
            .is_some_and(|executors| executors.len() == 2)
    });
    until("rows", &|| !sink::visible(&out).is_empty());
    drop(second);
    let shown = dev.finishes(&folder, "q");
    assert!(shown["generation"].as_u64() > Some(1), "it went on elsewhere: {shown}");
    let mut joined = BTreeMap::new();
    for row in sink::committed(&out).unwrap() {
        let [Some(id), Some(name)] = &row[..] else { panic!("{row:?}") };
        assert!(joined.insert(id.parse::<u64>().unwrap(), name.clone()).is_none(), "{id} twice");
    }
    assert!(joined.keys().copied().eq(0..ROWS), "{} rows", joined.len());
    let wrong = joined.iter().find(|(id, name)| **name != format!("first-{}", **id % KEYS));
    assert_eq!(wrong, None);
}
