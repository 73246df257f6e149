//! Records as rows of a topic.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use qanat_connectors::format::json::{JsonDecoder, JsonOptions};
use qanat_connectors::format::reader::{DecodeRequest, Policy};
use qanat_connectors::format::text::RecordDecoder;
use qanat_proto::{Code, Error, Result};
use qanat_storage::log::Topic;

use super::Record;

/// Rows per batch that is staged.
const BATCH_ROWS: usize = 8_192;

/// Records as rows of a topic.
pub(super) fn rows(topic: &Topic, records: &[Record]) -> Result<Vec<RecordBatch>> {
    let plain = || Arc::new(Schema::new(vec![Field::new("record", DataType::Utf8, false)]));
    let schema = topic.schema().unwrap_or_else(plain);
    let single = match schema.fields().iter().as_slice() {
        [field] => Some(field.data_type().clone()),
        _ => None,
    };
    let made = |e: arrow::error::ArrowError| Error::internal(format!("make rows of records: {e}"));
    let mut batches = Vec::new();
    for chunk in records.chunks(BATCH_ROWS) {
        let column: ArrayRef = match single {
            Some(DataType::Binary) => Arc::new(BinaryArray::from_iter_values(chunk.iter().map(|r| &r.bytes))),
            Some(DataType::Utf8) => {
                let text = |record| text_of(record).map_err(|why| unfit(topic, record, &why));
                Arc::new(StringArray::from(chunk.iter().map(text).collect::<Result<Vec<&str>>>()?))
            }
            _ => {
                batches.push(decode(topic, &schema, chunk)?);
                continue;
            }
        };
        batches.push(RecordBatch::try_new(schema.clone(), vec![column]).map_err(made)?);
    }
    Ok(batches)
}

fn text_of(record: &Record) -> Result<&str, String> {
    std::str::from_utf8(&record.bytes).map_err(|e| format!("it is not UTF-8: {e}"))
}

/// JSON objects by the names of columns, read as a table of format `json` reads them.
fn decode(topic: &Topic, schema: &SchemaRef, records: &[Record]) -> Result<RecordBatch> {
    let request = DecodeRequest {
        columns: Arc::clone(schema),
        projection: (0..schema.fields().len()).collect(),
        unread: Vec::new(),
        batch_rows: records.len(),
        policy: Policy::DeadLetter,
        origin: topic.name().to_string(),
        filter: None,
    };
    let mut decoder = JsonDecoder::new(JsonOptions { fail_on_missing_field: false }, request);
    let mut text = Vec::new();
    for record in records {
        let start = text.len();
        text.extend_from_slice(&record.bytes);
        // Between the parts of an object a line end is a space; inside of a text it may not stand.
        text.iter_mut().skip(start).filter(|byte| **byte == b'\n').for_each(|byte| *byte = b' ');
        if text.get(start..).unwrap_or_default().trim_ascii().is_empty() {
            return Err(unfit(topic, record, "it is empty"));
        }
        text.push(b'\n');
    }
    let found = decoder.scan(&text, true, usize::MAX).records;
    let decoded = decoder.decode(&mut text)?;
    if let Some(bad) = decoded.bad.first()
        && let Some(record) = records.get(bad.record)
    {
        return Err(unfit(topic, record, &bad.reason));
    }
    if found != records.len() || decoded.rows.num_rows() != records.len() {
        return Err(Error::internal("another number of records was decoded"));
    }
    Ok(decoded.rows)
}

fn unfit(topic: &Topic, record: &Record, why: &str) -> Error {
    Error::new(Code::SinkSchema, format!("entry {} does not fit topic `{}`: {why}", record.id, topic.name()))
        .hint("leave it out with --ids, or write the entries to a file with --into-file")
}
