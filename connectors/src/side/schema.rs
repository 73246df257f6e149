//! The columns of the side tables. Part of the format of saved topics: columns may be added at the end,
//! never changed.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use qanat_proto::error::{Error, Result};
use qanat_proto::manifest::SinkChannel;

fn columns(columns: &[(&str, DataType, bool)]) -> SchemaRef {
    Arc::new(Schema::new(
        columns
            .iter()
            .map(|(name, data_type, nullable)| Field::new(*name, data_type.clone(), *nullable))
            .collect::<Vec<_>>(),
    ))
}

static LATE: LazyLock<SchemaRef> = LazyLock::new(|| {
    let time = DataType::Timestamp(TimeUnit::Millisecond, None);
    columns(&[
        ("job", DataType::Utf8, false),
        ("epoch", DataType::Int64, false),
        ("operator", DataType::Utf8, false),
        ("event_time", time.clone(), true),
        ("watermark", time, true),
        ("row", DataType::Utf8, false),
    ])
});

static DEAD_LETTERS: LazyLock<SchemaRef> = LazyLock::new(|| {
    columns(&[
        ("job", DataType::Utf8, false),
        ("epoch", DataType::Int64, false),
        ("operator", DataType::Utf8, false),
        ("origin", DataType::Utf8, true),
        ("offset", DataType::Int64, true),
        ("reason", DataType::Utf8, false),
        ("raw", DataType::Binary, true),
        ("text", DataType::Utf8, true),
    ])
});

/// `job` (32 hex digits), `epoch`, `operator` (name), `event_time` and `watermark` (UTC; null for none),
/// `row` (JSON object).
pub fn late_schema() -> SchemaRef {
    LATE.clone()
}

/// `job`, `epoch`, `operator` (or table), `origin` and `offset` of a record that could not be decoded, `reason`,
/// `raw` (its bytes, null for a row that an operator could not process), `text` (the bytes as text, or the row
/// as a JSON object).
pub fn dead_letter_schema() -> SchemaRef {
    DEAD_LETTERS.clone()
}

/// The columns of a side table.
///
/// # Errors
/// E0503 for a channel that is no side table.
pub fn schema(channel: SinkChannel) -> Result<SchemaRef> {
    match channel {
        SinkChannel::Late => Ok(late_schema()),
        SinkChannel::DeadLetters => Ok(dead_letter_schema()),
        SinkChannel::Table => Err(Error::internal("a sink's own table is no side table")),
    }
}
