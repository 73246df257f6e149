//! What an executor shows on the page of metrics.

use std::time::Duration;

use qanat_proto::exposition::{FENCED, Page};

use crate::metrics::{Fenced, JobMetrics, SubtaskMetrics};

const SUBTASK: &[&str] = &["job", "operator", "subtask"];

qanat_proto::families! {
    ROWS_IN: Counter "qanat_subtask_rows_in_total" SUBTASK,
        "Rows that a subtask took from its sources or from other subtasks.";
    BYTES_IN: Counter "qanat_subtask_bytes_in_total" SUBTASK,
        "Bytes of these rows in memory; of sources, the bytes that were read.";
    BATCHES_IN: Counter "qanat_subtask_batches_in_total" SUBTASK,
        "Batches of these rows, after coalescing.";
    ROWS_OUT: Counter "qanat_subtask_rows_out_total" SUBTASK,
        "Rows that a subtask sent to other subtasks.";
    BYTES_OUT: Counter "qanat_subtask_bytes_out_total" SUBTASK,
        "Bytes of these rows in memory.";
    BATCHES_OUT: Counter "qanat_subtask_batches_out_total" SUBTASK,
        "Batches of these rows, before a shuffle divides them.";
    ROWS_SUNK: Counter "qanat_subtask_sink_rows_total" SUBTASK,
        "Rows that a subtask gave to its sinks.";
    BYTES_SUNK: Counter "qanat_subtask_sink_bytes_total" SUBTASK,
        "Bytes of these rows in memory.";
    BUSY: Counter "qanat_subtask_busy_seconds_total" SUBTASK,
        "Time in which a subtask worked or waited for a compute thread.";
    IDLE: Counter "qanat_subtask_idle_seconds_total" SUBTASK,
        "Time in which a subtask had nothing to do.";
    BACKPRESSURED: Counter "qanat_subtask_backpressured_seconds_total" SUBTASK,
        "Time in which a subtask waited for room in a queue behind it or in the job's memory.";
    WATERMARK_LAG: Gauge "qanat_subtask_watermark_lag_seconds" SUBTASK,
        "How far a subtask's watermark is behind the wall clock.";
    QUEUE_BYTES: Gauge "qanat_subtask_queue_bytes" SUBTASK,
        "Bytes that wait in a subtask's input queues.";
    QUEUE_FILL: Gauge "qanat_subtask_queue_fill_ratio" SUBTASK,
        "How full the fullest input queue of a subtask is, from 0 to 1.";
    SOURCE_ROWS: Counter "qanat_source_rows_total" &["job", "table"],
        "Records that were read from a table, undecodable ones included.";
    SOURCE_BYTES: Counter "qanat_source_bytes_total" &["job", "table"],
        "Bytes that were read from a table.";
    SOURCE_LAG: Gauge "qanat_source_watermark_lag_seconds" &["job", "table"],
        "How far the watermark of a source is behind the wall clock.";
    CREDIT: Gauge "qanat_exchange_credit_bytes" &["job", "operator"],
        "Bytes that an operator may still send to other executors before they answer.";
    IN_FLIGHT: Gauge "qanat_exchange_in_flight_bytes" &["job", "operator"],
        "Bytes that an operator has sent to other executors and they have not taken yet.";
    MEMORY: Gauge "qanat_job_memory_bytes" &["job"],
        "Bytes that queues and state of a job hold in this process.";
    MEMORY_PEAK: Gauge "qanat_job_memory_peak_bytes" &["job"],
        "The most that they held in this generation.";
    MEMORY_LIMIT: Gauge "qanat_job_memory_limit_bytes" &["job"],
        "The job's budget in this process.";
    PUT_ASIDE: Counter "qanat_job_state_put_aside_bytes_total" &["job"],
        "Bytes of state that left memory for the local disk because the budget had no room for them.";
    BROUGHT_BACK: Counter "qanat_job_state_brought_back_bytes_total" &["job"],
        "Bytes of such state that were read again because they were needed.";
}

/// Shows the counters of a job. Times: monotonic, and ms since 1970 UTC.
pub(crate) fn show_job(page: &mut Page, job: &JobMetrics, now: Duration, now_ms: i64) {
    let name = job.name.as_str();
    for (table, source) in &job.sources {
        page.add(&SOURCE_ROWS, &[name, table], source.records() as f64);
        page.add(&SOURCE_BYTES, &[name, table], source.bytes() as f64);
        if let Some(watermark) = source.watermark_ms() {
            page.add(&SOURCE_LAG, &[name, table], lag_seconds(watermark, now_ms));
        }
    }
    for subtask in job.subtasks().iter() {
        show_subtask(page, name, subtask, now, now_ms);
    }
    for (operator, (in_flight, credit)) in job.credit() {
        page.add(&CREDIT, &[name, &operator], credit as f64);
        page.add(&IN_FLIGHT, &[name, &operator], in_flight as f64);
    }
    page.add(&MEMORY, &[name], job.memory.used() as f64);
    page.add(&MEMORY_PEAK, &[name], job.memory.peak() as f64);
    page.add(&MEMORY_LIMIT, &[name], job.memory.limit() as f64);
    page.add(&PUT_ASIDE, &[name], job.memory.put_aside() as f64);
    page.add(&BROUGHT_BACK, &[name], job.memory.brought_back() as f64);
}

fn show_subtask(page: &mut Page, job: &str, subtask: &SubtaskMetrics, now: Duration, now_ms: i64) {
    let index = subtask.index.to_string();
    let labels = [job, subtask.operator.as_str(), index.as_str()];
    let spent = subtask.spent(now);
    let counts = [
        (&ROWS_IN, subtask.input.rows()),
        (&BYTES_IN, subtask.input.bytes()),
        (&BATCHES_IN, subtask.input.batches()),
        (&ROWS_OUT, subtask.output.rows()),
        (&BYTES_OUT, subtask.output.bytes()),
        (&BATCHES_OUT, subtask.output.batches()),
        (&ROWS_SUNK, subtask.sunk.rows()),
        (&BYTES_SUNK, subtask.sunk.bytes()),
    ];
    for (family, count) in counts {
        page.add(family, &labels, count as f64);
    }
    for (family, time) in [(&BUSY, spent.busy), (&IDLE, spent.idle), (&BACKPRESSURED, spent.backpressured)] {
        page.add(family, &labels, time.as_secs_f64());
    }
    if let Some(watermark) = subtask.watermark_ms() {
        page.add(&WATERMARK_LAG, &labels, lag_seconds(watermark, now_ms));
    }
    if let Some((bytes, fill)) = subtask.queued() {
        page.add(&QUEUE_BYTES, &labels, bytes as f64);
        page.add(&QUEUE_FILL, &labels, fill);
    }
}

/// Shows what was refused: control messages and appends, and connections of the exchange.
pub(crate) fn show_fenced(page: &mut Page, fenced: &Fenced, exchange: u64) {
    for (effect, count) in [("control", fenced.control()), ("exchange", exchange), ("log", fenced.log())] {
        page.add(&FENCED, &[effect], count as f64);
    }
}

fn lag_seconds(watermark_ms: i64, now_ms: i64) -> f64 {
    now_ms.saturating_sub(watermark_ms).max(0) as f64 / 1_000.0
}
