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

/// The process dies at every step of an epoch in turn, at its first, second and fifth passing, and the
/// answer is the same as if it had not.
#[test]
fn every_failpoint_is_hit_and_survived() -> Result<()> {
    let binary = binary::locate(None)?;
    for name in FAILPOINTS {
        let qanat = Qanat::in_new_folder(&format!("failpoint-{name}"), &binary)?;
        qanat.write("job.sql", SCRIPT)?;
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
