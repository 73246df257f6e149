//! Bad input and bad surroundings, through the binary: one clear error with a code, exit status 1, no
//! panic, and a run that completes with every row once when the cause is mended.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::folder::{Folder, rows_folder};
use crate::process::{Invocation, Outcome};
use crate::sink;

const ROWS: usize = 120_000;

fn numbers() -> String {
    let rows: String = (0..ROWS).map(|n| format!("{n},{}\n", n * 7919 % 10_007)).collect();
    format!("id,v\n{rows}")
}

fn gzip(text: &str) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// A job that copies `path` into `out`.
fn copy(path: &str, more: &str) -> String {
    format!(
        "SET 'execution.checkpointing.interval' = '5 ms';\n\
         CREATE TABLE t (id BIGINT, v BIGINT) WITH ('connector' = 'filesystem', 'path' = '{path}', 'format' = 'csv'{more});\n\
         CREATE TABLE o (id BIGINT, v BIGINT) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');\n\
         INSERT INTO o SELECT * FROM t;\n"
    )
}

fn run(folder: &Folder) -> Outcome {
    Invocation::job(folder.path(), "q.sql", 2, &[]).run().unwrap()
}

/// The code of the error that the run must end in.
#[track_caller]
fn fails(outcome: &Outcome, code: &str) -> Value {
    assert_eq!(outcome.code, Some(1), "{}", outcome.describe());
    assert!(!outcome.stderr.contains("panicked"), "{}", outcome.describe());
    let error = outcome.error().unwrap_or_else(|| panic!("no error: {}", outcome.describe()));
    assert_eq!(error["code"], code, "{}", outcome.describe());
    error
}

#[track_caller]
fn completes(folder: &Folder, rows: usize) {
    let outcome = run(folder);
    assert_eq!(outcome.code, Some(0), "{}", outcome.describe());
    let mut ids: Vec<String> =
        sink::committed(&folder.path().join("out")).unwrap().into_iter().filter_map(|mut row| row.remove(0)).collect();
    let found = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!((found, ids.len()), (rows, rows), "rows, and different ones");
    let audit = Invocation::new(folder.path(), ["-o", "json", "audit", "q", "--data", "data"]).run().unwrap();
    assert_eq!(audit.code, Some(0), "{}", audit.describe());
}

#[test]
fn a_truncated_gzip_is_an_error_and_mended_it_goes_on() {
    let folder = Folder::new("truncated");
    let whole = gzip(&numbers());
    folder.write("in/a.csv.gz", &whole[..whole.len() / 2]);
    folder.write("q.sql", copy("in", ""));
    fails(&run(&folder), "E0208");
    folder.write("in/a.csv.gz", &whole);
    completes(&folder, ROWS);
}

#[test]
fn a_wrong_header_names_the_column_and_mended_it_goes_on() {
    let folder = Folder::new("header");
    folder.write("in/a.csv", "id,w\n1,2\n");
    folder.write("q.sql", copy("in", ""));
    let error = fails(&run(&folder), "E0209");
    assert!(error["message"].as_str().unwrap().contains("`v`"), "{error}");
    folder.write("in/a.csv", "id,v\n1,2\n");
    completes(&folder, 1);
}

#[test]
fn a_record_that_fails_each_time_fails_the_job_where_the_policy_says_so() {
    let folder = Folder::new("policy");
    folder.write("in/a.csv", numbers().replace("\n50000,", "\nfifty,"));
    folder.write("q.sql", copy("in", ", 'dead-letter.policy' = 'fail'"));
    let error = fails(&run(&folder), "E0210");
    assert_eq!(error["place"]["origin"]["offset"], 50_000, "{error}");
    // It stays there: the same record, the same end.
    fails(&run(&folder), "E0210");
}

#[test]
fn invalid_text_is_kept_as_it_was() {
    let folder = Folder::new("utf8");
    folder.write("in/a.csv", b"id,v\n1,2\n\xff\xfe,3\n");
    folder.write("q.sql", copy("in", ""));
    completes(&folder, 1);
    let list = Invocation::new(folder.path(), ["-o", "json", "dead-letters", "list", "q", "--data", "data"]);
    let list = list.run().unwrap().json().unwrap();
    assert_eq!((&list[0]["raw"], &list[0]["offset"]), (&"fffe2c33".into(), &1.into()), "{list}");
}

/// Every file of a job's own state, damaged in the middle, cut and removed: an error or the right answer.
#[test]
fn damaged_state_is_an_error_and_never_another_answer() {
    if !cfg!(debug_assertions) {
        // Release builds have no failpoints.
        return;
    }
    let folder = Folder::new("damage");
    folder.write("in/a.csv", late_rows());
    folder.write("q.sql", WINDOWED);
    let killed = Invocation::job(folder.path(), "q.sql", 2, &[]).failpoint(Some("claim.applied:3")).run().unwrap();
    assert!(killed.aborted, "{}", killed.describe());
    let state = folder.path().join("data/jobs/q");
    let saved = Folder::new("saved");
    copy_tree(folder.path(), saved.path());
    let mut refused = 0;
    for path in tree(&state).into_iter().filter(|path| is_needed(path)) {
        for how in ["flip", "cut", "gone"] {
            std::fs::remove_dir_all(folder.path()).unwrap();
            copy_tree(saved.path(), folder.path());
            damage(&path, how);
            let outcome = run(&folder);
            let what = format!("{how} {}: {}", path.display(), outcome.describe());
            assert!(!outcome.stderr.contains("panicked"), "{what}");
            if outcome.code == Some(0) {
                // The torn end of a log is what a crash leaves: the run went on from before it.
                completes_windows(&folder, &what);
                continue;
            }
            let error = outcome.error().unwrap_or_else(|| panic!("no error: {what}"));
            assert!(["E0301", "E0304", "E0307"].contains(&error["code"].as_str().unwrap()), "{what}");
            refused += 1;
        }
    }
    assert!(refused >= 10, "{refused}");
    std::fs::remove_dir_all(folder.path()).unwrap();
    copy_tree(saved.path(), folder.path());
    let outcome = run(&folder);
    completes_windows(&folder, &outcome.describe());
}

/// A command log that has lost nothing but its last claim looks like one that a crash has torn. The sinks know
/// better: what they show was claimed.
#[test]
fn a_log_that_lost_its_last_claim_is_refused() {
    if !cfg!(debug_assertions) {
        return;
    }
    // A second of rows: some epochs, however slow the disk.
    let files = "SET 'execution.checkpointing.interval' = '5 ms';
        CREATE TABLE t (id BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '6000', 'rows-per-second' = '6000',
          'fields.id.kind' = 'sequence', 'fields.id.start' = '0', 'fields.id.end' = '5999');
        CREATE TABLE o (id BIGINT) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');
        INSERT INTO o SELECT * FROM t;";
    let topic = files.replace("'filesystem', 'path' = 'out', 'format' = 'csv'", "'log', 'topic' = 'o'");
    for script in [files, &topic] {
        let folder = Folder::new("lost-claim");
        folder.write("q.sql", script);
        let killed = Invocation::job(folder.path(), "q.sql", 2, &[]).failpoint(Some("commit.sink:2")).run().unwrap();
        assert!(killed.aborted, "{}", killed.describe());
        let log = rows_folder(&folder.path().join("data/jobs/q/commands/commands")).join("p00000/0000000000000000.log");
        let whole = std::fs::read(&log).unwrap();
        let claim = rfind(&whole, br#""command":"claim""#);
        let mut cut = whole.clone();
        cut[rfind(&whole[..claim], b"QFRM")..].fill(0);
        std::fs::write(&log, &cut).unwrap();
        let error = fails(&run(&folder), "E0304");
        // The manifest of the epoch behind it may have been written already, and tells as much.
        let message = error["message"].as_str().unwrap();
        let is_known = ["a sink holds epoch", "checkpoints go on to epoch"].iter().any(|by| message.contains(by));
        assert!(is_known, "{error}");
        std::fs::write(&log, &whole).unwrap();
        let outcome = run(&folder);
        assert_eq!(outcome.code, Some(0), "{}", outcome.describe());
        let audit = Invocation::new(folder.path(), ["-o", "json", "audit", "q", "--data", "data"]).run().unwrap();
        assert_eq!(audit.code, Some(0), "{}", audit.describe());
    }
}

fn rfind(bytes: &[u8], wanted: &[u8]) -> usize {
    bytes.windows(wanted.len()).rposition(|window| window == wanted).expect("it stands there")
}

const WINDOWED: &str = "SET 'execution.checkpointing.interval' = '5 ms';
CREATE TABLE t (id BIGINT, k STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'path' = 'in', 'format' = 'csv');
CREATE TABLE o (s TIMESTAMP(3), k STRING, n BIGINT) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');
INSERT INTO o SELECT window_start, k, COUNT(*) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' SECOND)) GROUP BY window_start, window_end, k;
";

/// Rows of which many are far behind the ones before them.
fn late_rows() -> String {
    let row = |n: i64| {
        let time = 1_357_000_000_000 + n * 10 - if n % 17 == 0 { 5_000 } else { 0 };
        format!("{n},k{},{}\n", n % 7, crate::timestamp::format(time))
    };
    format!("id,k,ts\n{}", (0..ROWS as i64).map(row).collect::<String>())
}

/// Every row is in one window or in the late table.
fn completes_windows(folder: &Folder, what: &str) {
    let rows = sink::committed(&folder.path().join("out")).unwrap_or_else(|e| panic!("{what}: {e}"));
    let counted: usize = rows.iter().map(|row| row[2].as_ref().unwrap().parse::<usize>().unwrap()).sum();
    let list = Invocation::new(folder.path(), ["-o", "json", "late", "list", "q", "--data", "data"]).run().unwrap();
    let late = list.json().unwrap().as_array().map_or(0, Vec::len);
    assert!(late > 0, "{what}: no row was late");
    assert_eq!(counted + late, ROWS, "{what}");
    let keys: std::collections::BTreeSet<_> = rows.iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    assert_eq!(keys.len(), rows.len(), "{what}: a window fired twice");
}

/// Old epochs are not read again; the newest manifest and what it names are, and the log.
fn is_needed(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    let length = std::fs::metadata(path).unwrap().len();
    length > 0
        && (name.starts_with("000000000003")
            || name.contains("-e00000003-")
            || path.to_string_lossy().contains("/commands/"))
}

fn damage(path: &Path, how: &str) {
    let mut bytes = std::fs::read(path).unwrap();
    // Log files are longer than what was written to them.
    let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    match how {
        "flip" => bytes[written / 2] ^= 0x10,
        "cut" => bytes.truncate(written / 2),
        _ => return std::fs::remove_file(path).unwrap(),
    }
    std::fs::write(path, bytes).unwrap();
}

fn tree(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            found.extend(tree(&path))
        } else if kind.is_file() {
            found.push(path)
        }
    }
    found.sort();
    found
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    // Times are part of what tells one input from another.
    let status = Command::new("cp").args(["-a", "--"]).arg(from.join(".")).arg(to).status().unwrap();
    assert!(status.success());
}

#[test]
fn state_of_another_job_and_a_second_process_are_refused() {
    let folder = Folder::new("foreign");
    folder.write("in/a.csv", "id,v\n1,2\n");
    folder.write("q.sql", copy("in", ", 'source.monitor-interval' = '1 s'"));
    let mut first = Command::new(env!("CARGO_BIN_EXE_qanat"));
    let mut first = first
        .args(["run", "q.sql", "--data", "data"])
        .current_dir(folder.path())
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let begun = std::time::Instant::now();
    while sink::visible(&folder.path().join("out")).is_empty() {
        assert!(begun.elapsed().as_secs() < 60 && first.try_wait().unwrap().is_none(), "no row within a minute");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    fails(&run(&folder), "E0303");
    let status = Command::new("kill").arg(first.id().to_string()).status().unwrap();
    assert!(status.success());
    assert_eq!(first.wait().unwrap().code(), Some(0), "SIGTERM takes a last checkpoint");
    folder.write("q.sql", copy("in", ""));
    fails(&run(&folder), "E0302");
}

/// Files may not grow: what a full disk does at every place at once. The process must end by itself.
#[test]
fn a_disk_that_takes_no_more_ends_the_run_and_nothing_is_lost() {
    let folder = Folder::new("full");
    folder.write("in/a.csv", numbers());
    folder.write("q.sql", copy("in", ""));
    let limited = Command::new("sh")
        .args(["-c", "ulimit -f 300; exec \"$0\" run q.sql --data data", env!("CARGO_BIN_EXE_qanat")])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&limited.stderr);
    assert_eq!(limited.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("error[E0214]") || stderr.contains("error[E0215]"), "{stderr}");
    completes(&folder, ROWS);
}

#[test]
fn folders_without_permission() {
    // SAFETY-free way to lose root's rights: another user, if there is one to become.
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    let folder = Folder::new("permission");
    folder.write("in/a.csv", "id,v\n1,2\n");
    folder.write("q.sql", copy("in", ""));
    let open = |path: &Path, mode: u32| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open(folder.path(), 0o777);
    // A binary in a private folder cannot be run by anybody else.
    let binary = folder.path().join("qanat");
    std::fs::copy(env!("CARGO_BIN_EXE_qanat"), &binary).unwrap();
    for (path, mode) in [("in", 0o000), ("out", 0o555)] {
        let locked = folder.path().join(path);
        std::fs::create_dir_all(&locked).unwrap();
        open(&locked, mode);
        let mut command = Command::new(&binary);
        command.args(["-o", "json", "run", "q.sql", "--data", "data"]).current_dir(folder.path());
        if is_root {
            command.uid(65_534).gid(65_534);
        }
        let output = command.output().unwrap();
        open(&locked, 0o777);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{path}: {stderr}");
        assert!(stderr.contains("E0207") && stderr.contains(path), "{path}: {stderr}");
    }
    std::fs::remove_dir_all(folder.path().join("data")).unwrap();
    completes(&folder, 1);
}

/// Its reader follows offsets inside the file: a wrong one is an error of the file and no panic.
#[test]
fn a_damaged_arrow_file_is_an_error() {
    let folder = Folder::new("arrow");
    folder.write("in/a.csv", "id,v\n1,2\n3,4\n");
    let to_arrow = copy("in", "").replace("'path' = 'out', 'format' = 'csv'", "'path' = 'made', 'format' = 'arrow'");
    folder.write("q.sql", to_arrow);
    assert_eq!(run(&folder).code, Some(0));
    let made = folder.path().join("made");
    let whole = std::fs::read(made.join(sink::visible(&made).pop_first().unwrap())).unwrap();
    folder.write("q.sql", copy("damaged", "").replace("'damaged', 'format' = 'csv'", "'damaged', 'format' = 'arrow'"));
    let mut refused = 0;
    for at in (101..whole.len()).step_by(whole.len() / 16) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        folder.write("damaged/a.arrow", &bytes);
        let _ = std::fs::remove_dir_all(folder.path().join("data"));
        let outcome = run(&folder);
        assert!(!outcome.stderr.contains("panicked"), "byte {at}: {}", outcome.describe());
        if outcome.code != Some(0) {
            let code = outcome.error().map(|error| error["code"].clone());
            let is_named = code.as_ref().is_some_and(|code| code == "E0208" || code == "E0209");
            assert!(is_named, "byte {at}: {}", outcome.describe());
            refused += 1;
        }
    }
    assert!(refused > 0);
}

/// What a link leads to is not the table's.
#[test]
fn an_overwrite_does_not_go_through_links() {
    let folder = Folder::new("overwrite-link");
    folder.write("important/below/keep.csv", "x\n1\n");
    folder.write("out/old.csv", "x\n7\n");
    std::os::unix::fs::symlink(folder.path().join("important"), folder.path().join("out/link")).unwrap();
    folder.write(
        "q.sql",
        "CREATE TABLE o (x INT) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');
         INSERT OVERWRITE o SELECT 1;",
    );
    let outcome = Invocation::job(folder.path(), "q.sql", 1, &[]).run().unwrap();
    assert_eq!(outcome.code, Some(0), "{}", outcome.describe());
    assert!(folder.path().join("important/below/keep.csv").exists());
    assert!(!folder.path().join("out/link").exists() && !folder.path().join("out/old.csv").exists());
}

/// A text that would be a comment, or two records, when it is read again is quoted, or refused.
#[test]
fn texts_that_csv_options_give_a_meaning() {
    let folder = Folder::new("csv-meaning");
    let table = |option: &str| {
        format!(
            "CREATE TABLE m (s STRING, t STRING) WITH ('connector' = 'filesystem', 'path' = 'mid', 'format' = 'csv', {option});
             CREATE TABLE o (s STRING, t STRING) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');"
        )
    };
    let run = |name: &str, script: &str| {
        folder.write(name, script);
        Invocation::job(folder.path(), name, 1, &[]).run().unwrap()
    };
    let comments = table("'csv.allow-comments' = 'true'");
    let written = run("write.sql", &format!("{comments} INSERT INTO m VALUES ('#c', 'x'), ('a', '#b');"));
    assert_eq!(written.code, Some(0), "{}", written.describe());
    let read = run("read.sql", &format!("{comments} INSERT INTO o SELECT * FROM m;"));
    assert_eq!(read.code, Some(0), "{}", read.describe());
    assert_eq!(sink::committed(&folder.path().join("out")).unwrap().len(), 2);
    let lines = table("'csv.multiline' = 'false'");
    let refused = run("lines.sql", &format!("{lines} INSERT INTO m SELECT 'a' || CHR(10) || 'b', 'x';"));
    assert_eq!(refused.error().unwrap()["code"], "E0217", "{}", refused.describe());
}

/// What could not be shown was not seen: the receipt of a finished job comes again.
#[test]
fn a_full_output_is_an_error() {
    let folder = Folder::new("full-output");
    folder.write(
        "q.sql",
        "CREATE TABLE t (a INT) WITH ('connector' = 'datagen', 'number-of-rows' = '10');
         CREATE TABLE o (a INT) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');
         INSERT INTO o SELECT a FROM t;",
    );
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let run = |output: std::process::Stdio| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_qanat"));
        command.args(["-o", "json", "run", "q.sql", "--data", "data"]).current_dir(folder.path());
        command.env_remove("QANAT_DATA").stdout(output).stderr(std::process::Stdio::piped()).output().unwrap()
    };
    let first = run(full.into());
    assert_eq!(first.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&first.stderr).contains("E0215"));
    let second = run(std::process::Stdio::piped());
    let receipt: serde_json::Value = serde_json::from_slice(&second.stdout).unwrap();
    assert_eq!((&receipt["status"], &receipt["sinks"]["o"]["rows"]), (&"FINISHED".into(), &10.into()), "{receipt}");
    let rows = std::fs::read_dir(folder.path().join("out")).unwrap().flatten();
    let rows = rows.filter(|entry| entry.file_name().to_string_lossy().starts_with("part"));
    let lines = rows.map(|entry| std::fs::read_to_string(entry.path()).unwrap().lines().count() - 1);
    assert_eq!(lines.sum::<usize>(), 10, "written once");
}
