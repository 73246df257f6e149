//! What an executor says of its jobs on each heartbeat.

use std::time::Duration;

use qanat_proto::ids::Token;
use qanat_proto::limits;
use qanat_proto::rpc::cluster::JobFigures;

use crate::metrics::JobMetrics;

/// The figures of a job in this process.
pub(crate) fn figures(token: Token, job: &JobMetrics, now: Duration) -> JobFigures {
    let mut figures = JobFigures {
        job: token.job.to_string(),
        generation: token.generation.0,
        source_rows: job.sources.iter().map(|(_, source)| source.records()).sum(),
        source_bytes: job.sources.iter().map(|(_, source)| source.bytes()).sum(),
        memory_bytes: job.memory.used() as u64,
        watermark_ms: job.sources.iter().filter_map(|(_, source)| source.watermark_ms()).min(),
        ..JobFigures::default()
    };
    for subtask in job.subtasks().iter() {
        figures.sink_rows += subtask.sunk.rows();
        let (busy, backpressured) = subtask.recently(now);
        figures.backpressured_ratio = figures.backpressured_ratio.max(backpressured);
        if busy > figures.busy_ratio {
            figures.busy_ratio = busy;
            figures.busiest.clone_from(&subtask.operator);
        }
    }
    figures.busiest.truncate(figures.busiest.floor_char_boundary(limits::HEARTBEAT_NAME_BYTES_MAX));
    figures
}
