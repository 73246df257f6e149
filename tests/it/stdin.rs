//! The standard input cannot be read again: what fails fails for good, and nobody else reads it.

use crate::folder::Folder;
use crate::process::{Invocation, Outcome};

fn run(folder: &Folder, script: &str) -> Outcome {
    Invocation::job(folder.path(), script, 1, &[]).input("in.csv").run().unwrap()
}

#[test]
fn a_failure_is_not_tried_again_without_its_records() {
    let table = |options: &str| {
        format!(
            "CREATE TABLE t (a INT, b STRING) WITH ('connector' = 'stdin', 'format' = 'csv'{options});
             CREATE TABLE o (a INT) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');
             INSERT INTO o SELECT a FROM t;"
        )
    };
    let rows: String = (0..20_000).map(|n| format!("{n},x\n")).collect();
    for (options, input, code) in [
        ("", "a,c\n1,2\n".to_owned(), "E0209"),
        (", 'dead-letter.policy' = 'fail'", format!("a,b\n{rows}bad,y\n7,z\n"), "E0210"),
    ] {
        let folder = Folder::new("stdin");
        folder.write("q.sql", table(options));
        folder.write("in.csv", &input);
        let outcome = run(&folder, "q.sql");
        assert_eq!(outcome.code, Some(1), "{}", outcome.describe());
        assert_eq!(outcome.error().unwrap()["code"], code, "{}", outcome.describe());
    }
}

#[test]
fn two_tables_cannot_share_it() {
    let folder = Folder::new("stdin-twice");
    let table = |name: &str| format!("CREATE TABLE {name} (a INT) WITH ('connector' = 'stdin', 'format' = 'csv');\n");
    folder.write("twice.sql", format!("{}{}SELECT a FROM t; SELECT a FROM u;", table("t"), table("u")));
    folder.write("in.csv", format!("{}SELECT a FROM t;", table("t")));
    for script in ["twice.sql", "-"] {
        let outcome = run(&folder, script);
        assert_eq!(outcome.code, Some(1), "{}", outcome.describe());
        assert_eq!(outcome.error().unwrap()["code"], "E0205", "{}", outcome.describe());
    }
}
