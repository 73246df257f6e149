//! The job that is killed: a generator whose every row is known by its id.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::oracle::expected::{KEYS, WINDOW_MS};

/// The name of the job.
pub const JOB: &str = "campaign";
/// Where a cluster keeps what it keeps, in the folder that it is tried in.
pub const FOLDER: &str = "cluster";
/// First line of the files of the ids.
pub const IDS_HEADER: &str = "id,checked";
/// First line of the files of the windows.
pub const WINDOWS_HEADER: &str = "window_start,k,n,total";

/// What to run.
#[derive(Clone, Debug)]
pub struct Workload {
    pub records: u64,
    /// As fast as possible if none.
    pub rows_per_second: Option<u64>,
    pub interval_ms: u64,
    /// The ids into files.
    pub file: bool,
    /// The ids into a topic.
    pub log: bool,
    /// A windowed aggregation over the ids into files.
    pub windows: bool,
    /// Where the ids go in a topic.
    pub topic: String,
    pub place: Place,
}

/// The topic of a job that is the only one of its folder.
pub const TOPIC: &str = "ids";

/// Where a workload keeps what it keeps, relative to the folder it is tried in.
#[derive(Clone, Debug)]
pub struct Place {
    /// In front of the sinks' paths: a cluster takes absolute ones alone.
    pub sinks: PathBuf,
    pub manifests: PathBuf,
    pub topics: PathBuf,
}

impl Place {
    /// In `qanat run`.
    pub fn of_run() -> Self {
        Self {
            sinks: PathBuf::new(),
            manifests: PathBuf::from(format!("qanat-data/jobs/{JOB}/checkpoints/manifests")),
            topics: PathBuf::from("qanat-data/topics"),
        }
    }

    /// In a cluster that is tried in `folder`.
    pub fn of_cluster(folder: &Path) -> Self {
        let storage = Path::new(FOLDER).join("storage");
        Self {
            sinks: folder.to_owned(),
            manifests: storage.join("checkpoints/manifests"),
            topics: storage.join("topics"),
        }
    }
}

impl Workload {
    /// All that there is, in a cluster of [`Place::of_cluster`].
    pub fn of_cluster(records: u64, rows_per_second: u64, interval_ms: u64, folder: &Path) -> Self {
        Self {
            records,
            rows_per_second: Some(rows_per_second),
            interval_ms,
            file: true,
            log: true,
            windows: true,
            topic: TOPIC.to_owned(),
            place: Place::of_cluster(folder),
        }
    }

    /// The same as another job of the cluster in `folder`, which writes to a folder and a topic of its own, both called
    /// `name`. Its readers look there: [`Watch::new`](super::watch::Watch::new) of that folder.
    #[must_use]
    pub fn apart(self, folder: &Path, name: &str) -> Self {
        let kept = Place::of_cluster(folder);
        let (manifests, topics) = (folder.join(kept.manifests), folder.join(kept.topics));
        Self { topic: name.to_owned(), place: Place { sinks: folder.join(name), manifests, topics }, ..self }
    }

    /// What its records take at their rate.
    pub fn lasts(&self) -> Duration {
        Duration::from_secs(self.rows_per_second.map_or(0, |rate| self.records / rate.max(1)))
    }

    /// The script. All paths are relative to the folder it runs in.
    pub fn script(&self) -> String {
        let mut sql = format!(
            "SET 'execution.checkpointing.interval' = '{} ms';\n\
             SET 'execution.checkpointing.num-retained' = '2';\n\
             CREATE TABLE numbers (\n  id BIGINT,\n  ts AS TO_TIMESTAMP_LTZ(id, 3),\n  \
             WATERMARK FOR ts AS ts - INTERVAL '1' SECOND\n) WITH (\n  'connector' = 'datagen',\n  \
             'fields.id.kind' = 'sequence', 'fields.id.start' = '0', 'fields.id.end' = '{}'",
            self.interval_ms,
            self.records.saturating_sub(1),
        );
        if let Some(rate) = self.rows_per_second {
            let _ = write!(sql, ",\n  'rows-per-second' = '{rate}'");
        }
        sql.push_str("\n);\n");
        if self.file {
            let _ = write!(
                sql,
                "CREATE TABLE ids_files (id BIGINT, checked BIGINT)\n  \
                 WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv');\n\
                 INSERT INTO ids_files SELECT id, id * 31 + 7 FROM numbers;\n",
                self.place.sinks.join("ids").display()
            );
        }
        if self.log {
            let _ = write!(
                sql,
                "CREATE TABLE ids_log (id BIGINT, checked BIGINT) WITH ('connector' = 'log', 'topic' = '{}');\n\
                 INSERT INTO ids_log SELECT id, id * 31 + 7 FROM numbers;\n",
                self.topic
            );
        }
        if self.windows {
            let _ = write!(
                sql,
                "CREATE TABLE windows (window_start TIMESTAMP(3), k BIGINT, n BIGINT, total BIGINT)\n  \
                 WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv');\n\
                 INSERT INTO windows SELECT window_start, id % {KEYS}, COUNT(*), SUM(id)\n  \
                 FROM TABLE(TUMBLE(TABLE numbers, DESCRIPTOR(ts), INTERVAL '{}' SECOND))\n  \
                 GROUP BY window_start, window_end, id % {KEYS};\n",
                self.place.sinks.join("windows").display(),
                WINDOW_MS / 1000
            );
        }
        sql
    }
}
