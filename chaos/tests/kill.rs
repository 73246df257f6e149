//! The kill campaign at a size for every change, and every failpoint hit.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use qanat_chaos::live::binary;
use qanat_chaos::live::campaign::Campaign;
use qanat_chaos::live::process::Qanat;
use qanat_storage::env::failpoint::FAILPOINTS;

/// Longer than any run here takes on a slow machine.
const DEADLINE: Duration = Duration::from_secs(120);
const SIGABRT: i32 = 6;

#[test]
fn twenty_kills_over_two_million_records_lose_and_double_nothing() -> Result<()> {
    let campaign = Campaign {
        records: 2_000_000,
        kills: 20,
        seed: 1,
        file: true,
        log: true,
        windows: true,
        parallelism: 2,
        interval_ms: 100,
        binary: binary::locate(None)?,
        name: "kill-test".to_owned(),
        keep: false,
    };
    let report = campaign.run()?;
    ensure!(report.passes(), "{}", report.to_json());
    Ok(())
}

/// A job with enough epochs that old checkpoints are retired and collected, and with state.
const SCRIPT: &str = "
SET 'execution.checkpointing.interval' = '10 ms';
CREATE TABLE g (id BIGINT, ts AS TO_TIMESTAMP_LTZ(id, 3), WATERMARK FOR ts AS ts)
WITH ('connector' = 'datagen', 'number-of-rows' = '60000', 'rows-per-second' = '150000',
      'fields.id.kind' = 'sequence', 'fields.id.start' = '0', 'fields.id.end' = '59999');
CREATE TABLE ids (id BIGINT) WITH ('connector' = 'filesystem', 'path' = 'ids', 'format' = 'csv', 'csv.header' = 'false');
CREATE TABLE counts (ws TIMESTAMP_LTZ(3), n BIGINT)
WITH ('connector' = 'filesystem', 'path' = 'counts', 'format' = 'csv', 'csv.header' = 'false');
INSERT INTO ids SELECT id FROM g;
INSERT INTO counts SELECT window_start, COUNT(*)
FROM TABLE(TUMBLE(TABLE g, DESCRIPTOR(ts), INTERVAL '1' SECOND)) GROUP BY window_start, window_end;
";

/// Files are merged once there are many: of windows that stay open, over more epochs. Checkpoints are retired once
/// there are many, too, and a slow disk makes few of them in a short run.
fn script(failpoint: &str) -> String {
    match failpoint {
        "retire.applied" | "collect.done" => SCRIPT.replace("'150000'", "'30000'"),
        "state.merge" | "state.merged" => {
            SCRIPT.replace("'150000'", "'15000'").replace("FOR ts AS ts)", "FOR ts AS ts - INTERVAL '1' HOUR)")
        }
        _ => SCRIPT.to_owned(),
    }
}

/// The process dies at every step of an epoch in turn, at its first, second and fifth passing, and the
/// answer is the same as if it had not.
#[test]
fn every_failpoint_is_hit_and_survived() -> Result<()> {
    let binary = binary::locate(None)?;
    for name in FAILPOINTS {
        let qanat = Qanat::in_new_folder(&format!("failpoint-{name}"), &binary)?;
        qanat.write("job.sql", &script(name))?;
        let (mut hits, mut is_finished) = (0, false);
        for count in [1, 2, 5] {
            let mut command = qanat.command(&["run", "job.sql", "--parallelism", "2", "-o", "json"]);
            command.env("QANAT_FAILPOINT", format!("{name}:{count}"));
            let ended = qanat.spawn(command)?.wait(DEADLINE)?;
            if ended.signal() == Some(SIGABRT) {
                hits += 1;
                continue;
            }
            ensure!(ended.success(), "{name}:{count} ended otherwise: {:?}", ended.json());
            is_finished = true;
            break;
        }
        ensure!(hits > 0, "no process died at `{name}`");
        if !is_finished {
            let ended = qanat.run(&["run", "job.sql", "-o", "json"], DEADLINE)?;
            ensure!(ended.success(), "after `{name}` the job does not finish: {:?}", ended.json());
        }
        check(&qanat.folder, name)?;
        let audit = qanat.run(&["audit", "job", "-o", "json"], DEADLINE)?;
        ensure!(audit.success(), "after `{name}` the audit fails: {:?}", audit.json());
        qanat.clean_up();
    }
    Ok(())
}

/// Rows up to half a second old under a watermark without slack: many are late.
const LATE_ROWS: &str = "
SET 'execution.checkpointing.interval' = '20 ms';
CREATE TABLE g (id BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
WITH ('connector' = 'datagen', 'number-of-rows' = '60000', 'rows-per-second' = '60000', 'base-time' = '2013-01-01 00:00:00',
      'fields.id.kind' = 'sequence', 'fields.id.start' = '0', 'fields.id.end' = '59999', 'fields.ts.max-past' = '500 ms');
CREATE TABLE counts (ws TIMESTAMP(3), n BIGINT)
WITH ('connector' = 'filesystem', 'path' = 'counts', 'format' = 'csv', 'csv.header' = 'false');
INSERT INTO counts SELECT window_start, COUNT(*)
FROM TABLE(TUMBLE(TABLE g, DESCRIPTOR(ts), INTERVAL '100' MILLISECOND)) GROUP BY window_start, window_end;
";

/// What judges rows before the shuffle has no state of its own: after a death it must know the watermark
/// before the first row comes (P13).
#[test]
fn rows_that_come_late_after_a_death_are_still_late() -> Result<()> {
    let qanat = Qanat::in_new_folder("late-after-death", &binary::locate(None)?)?;
    qanat.write("job.sql", LATE_ROWS)?;
    for _ in 0..3 {
        let mut command = qanat.command(&["run", "job.sql", "--parallelism", "2", "-o", "json"]);
        command.env("QANAT_FAILPOINT", "commit.done:5");
        let ended = qanat.spawn(command)?.wait(DEADLINE)?;
        ensure!(ended.signal() == Some(SIGABRT), "the process did not die: {:?}", ended.json());
    }
    let ended = qanat.run(&["run", "job.sql", "--parallelism", "2", "-o", "json"], DEADLINE)?;
    ensure!(ended.success(), "the job does not finish: {:?}", ended.json());
    let receipt = ended.json()?;
    let late = receipt["late"].as_u64().unwrap_or(0);
    ensure!(late > 0, "no row was late: {receipt}");
    let mut counted = 0;
    let mut windows = std::collections::BTreeSet::new();
    for line in lines(&qanat.folder.join("counts"))? {
        let (window, count) = line.split_once(',').ok_or_else(|| anyhow::anyhow!("`{line}`"))?;
        ensure!(windows.insert(window.to_owned()), "window {window} fired twice");
        counted += count.parse::<u64>()?;
    }
    ensure!(counted + late == 60_000, "{counted} rows counted, {late} late");
    qanat.clean_up();
    Ok(())
}

/// A subtask without a split says that it is idle, so that the others' windows close.
#[test]
fn windows_of_a_followed_folder_close_while_some_subtasks_have_no_file() -> Result<()> {
    let qanat = Qanat::in_new_folder("follow-few-files", &binary::locate(None)?)?;
    let rows: String = (10..50).map(|second| format!("2013-01-01 00:00:{second}\n")).collect();
    qanat.write("in.csv", &rows)?;
    qanat.write(
        "job.sql",
        "CREATE TABLE g (ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
         WITH ('connector' = 'filesystem', 'path' = 'in.csv', 'format' = 'csv', 'csv.header' = 'false',
               'csv.multiline' = 'false', 'source.monitor-interval' = '100 ms');
         CREATE TABLE counts (ws TIMESTAMP(3), n BIGINT)
         WITH ('connector' = 'filesystem', 'path' = 'counts', 'format' = 'csv', 'csv.header' = 'false');
         INSERT INTO counts SELECT window_start, COUNT(*)
         FROM TABLE(TUMBLE(TABLE g, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end;",
    )?;
    let mut life = qanat.start(&["run", "job.sql", "--parallelism", "3", "-o", "json"])?;
    let folder = qanat.folder.join("counts");
    let closed = life.until(DEADLINE, || Ok(folder.is_dir() && lines(&folder)?.len() == 3))?;
    life.kill()?;
    ensure!(closed, "no window closes");
    qanat.clean_up();
    Ok(())
}

/// The ids are 0 to 59999, each once; each of the 60 windows counts its 1,000.
fn check(folder: &Path, name: &str) -> Result<()> {
    let mut ids: Vec<u64> = lines(&folder.join("ids"))?.iter().map(|line| line.parse()).collect::<Result<_, _>>()?;
    ids.sort_unstable();
    let is_exact = ids.iter().copied().eq(0..60_000);
    ensure!(is_exact, "after a death at `{name}` there are {} ids, not 0 to 59999", ids.len());
    let counts = lines(&folder.join("counts"))?;
    let is_right = counts.len() == 60 && counts.iter().all(|line| line.ends_with(",1000"));
    ensure!(is_right, "after a death at `{name}` the windows are {counts:?}");
    Ok(())
}

fn lines(folder: &Path) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "csv") {
            lines.extend(std::fs::read_to_string(path)?.lines().map(str::to_owned));
        }
    }
    Ok(lines)
}
