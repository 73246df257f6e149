//! JSON lines, through the arrow crate's writer: one object per line, nested values as JSON.
//!
//! Floats that JSON has no number for are written as the texts `NaN`, `Infinity` and `-Infinity`, as
//! Flink does; the arrow crate alone would write null and lose them. Bytes are written as base64.

use std::sync::Arc;

use ::arrow::array::cast::AsArray;
use ::arrow::array::types::{Float32Type, Float64Type, Int64Type};
use ::arrow::array::{Array, BinaryArray, Int64Array, RecordBatch};
use ::arrow::compute::{cast, max, min};
use ::arrow::datatypes::{DataType, FieldRef, SchemaRef, TimeUnit};
use ::arrow::error::ArrowError;
use ::arrow::json::writer::{LineDelimited, NullableEncoder, WriterBuilder, make_encoder};
use ::arrow::json::{Encoder as ValueEncoder, EncoderFactory, EncoderOptions, Writer};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use qanat_proto::connector::TableDescriptor;
use qanat_proto::error::{Error, Result};
use serde::{Deserialize, Serialize};

use super::compress::CompressedWriter;
use super::text::{write_date, write_timestamp};
use super::{Encoder, Target, bad_option, boolean_option, encode_error, utc_rows, utc_schema};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonOptions {
    /// `json.timestamp-format.standard`.
    pub timestamps: TimestampStandard,
    /// `json.encode.ignore-null-fields`: leave nulls out.
    pub ignore_null_fields: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimestampStandard {
    /// `2013-01-01 10:00:00.5`, with `Z` for TIMESTAMP_LTZ.
    #[default]
    #[serde(rename = "SQL")]
    Sql,
    /// `2013-01-01T10:00:00.5`.
    #[serde(rename = "ISO-8601")]
    Iso8601,
}

impl JsonOptions {
    /// `format`: the prefix of the options.
    ///
    /// # Errors
    /// E0203 for a bad value.
    pub fn of_table(table: &TableDescriptor, format: &str) -> Result<Self> {
        let key = format!("{format}.timestamp-format.standard");
        let timestamps = match table.option(&key) {
            None => TimestampStandard::default(),
            Some(text) if text.eq_ignore_ascii_case("SQL") => TimestampStandard::Sql,
            Some(text) if text.eq_ignore_ascii_case("ISO-8601") => TimestampStandard::Iso8601,
            Some(text) => return Err(bad_option(&key, text, "SQL or ISO-8601")),
        };
        let ignores = boolean_option(table, &format!("{format}.encode.ignore-null-fields"), false)?;
        Ok(Self { timestamps, ignore_null_fields: ignores })
    }

    fn builder(&self, values: FlinkValues) -> WriterBuilder {
        let separator = match self.timestamps {
            TimestampStandard::Sql => ' ',
            TimestampStandard::Iso8601 => 'T',
        };
        // `%.f` writes as many digits as there are, so that no precision is lost and none invented.
        let plain = format!("%Y-%m-%d{separator}%H:%M:%S%.f");
        WriterBuilder::new()
            .with_explicit_nulls(!self.ignore_null_fields)
            .with_timestamp_tz_format(format!("{plain}Z"))
            .with_datetime_format(plain.clone())
            .with_timestamp_format(plain)
            .with_encoder_factory(Arc::new(values))
    }
}

pub(crate) fn is_supported(data_type: &DataType) -> bool {
    match data_type {
        DataType::Duration(_) | DataType::Interval(_) | DataType::Union(_, _) => false,
        DataType::Dictionary(_, value) => is_supported(value),
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            is_supported(field.data_type())
        }
        DataType::Struct(fields) => fields.iter().all(|f| is_supported(f.data_type())),
        DataType::Map(entries, _) => match entries.data_type() {
            // Keys of a JSON object are texts.
            DataType::Struct(fields) => {
                fields.first().is_some_and(|key| key.data_type().is_string())
                    && fields.get(1).is_some_and(|value| is_supported(value.data_type()))
            }
            _ => false,
        },
        _ => true,
    }
}

pub(crate) struct JsonEncoder {
    writer: Writer<CompressedWriter, LineDelimited>,
    schema: SchemaRef,
}

impl JsonEncoder {
    pub(crate) fn new(options: &JsonOptions, columns: &SchemaRef, writer: CompressedWriter) -> Self {
        Self {
            writer: options.builder(FlinkValues { has_far_times: false }).build(writer),
            schema: utc_schema(columns),
        }
    }
}

impl Encoder for JsonEncoder {
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let rows = utc_rows(rows, &self.schema).map_err(|e| encode_error("json", &e))?;
        rows.columns().iter().try_for_each(|column| refuse_far_times(column.as_ref()))?;
        self.writer.write(&rows).map_err(|e| encode_error("json", &e))
    }

    fn bytes(&self) -> u64 {
        self.writer.get_ref().written()
    }

    fn finish(mut self: Box<Self>) -> Result<Box<dyn Target>> {
        self.writer.finish().map_err(|e| encode_error("json", &e))?;
        self.writer.into_inner().finish().map_err(|e| Error::io("write json file", &e))
    }
}

/// The rows of a batch as JSON texts, one per row, nulls included.
///
/// # Errors
/// E0217 for a type that JSON cannot hold.
pub fn rows_as_text(rows: &RecordBatch) -> Result<Vec<String>> {
    let rows = utc_rows(rows, &utc_schema(rows.schema_ref())).map_err(|e| encode_error("json", &e))?;
    let mut writer =
        JsonOptions::default().builder(FlinkValues { has_far_times: true }).build::<_, LineDelimited>(Vec::new());
    writer.write(&rows).and_then(|()| writer.finish()).map_err(|e| encode_error("json", &e))?;
    let bytes = writer.into_inner();
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().map(str::to_owned).collect())
}

/// E0217 for a date or timestamp outside the years 0000 to 9999: the arrow crate would write its own error.
fn refuse_far_times(array: &dyn Array) -> Result<()> {
    match array.data_type() {
        DataType::Timestamp(unit, _) => {
            let times = as_integers(array)?;
            let ends = min(&times).into_iter().chain(max(&times));
            ends.into_iter().try_for_each(|time| write_timestamp(time, *unit, b' ', false, &mut Vec::new()))
        }
        DataType::Date32 => {
            let days = as_integers(array)?;
            let ends = min(&days).into_iter().chain(max(&days));
            ends.into_iter().try_for_each(|days| write_date(days, &mut Vec::new()))
        }
        DataType::List(_) => refuse_far_times(array.as_list::<i32>().values()),
        DataType::Map(_, _) => refuse_far_times(array.as_map().entries()),
        DataType::Struct(_) => array.as_struct().columns().iter().try_for_each(|c| refuse_far_times(c.as_ref())),
        _ => Ok(()),
    }
}

fn as_integers(array: &dyn Array) -> Result<Int64Array> {
    let integers = match array.data_type() {
        // No cast from days to 64 bits.
        DataType::Date32 => cast(array, &DataType::Int32).and_then(|days| cast(&days, &DataType::Int64)),
        _ => cast(array, &DataType::Int64),
    };
    Ok(integers.map_err(|e| encode_error("json", &e))?.as_primitive::<Int64Type>().clone())
}

/// Times of which some are outside the years 0000 to 9999: those as numbers. Only where nothing may fail.
struct FarTimes {
    values: Int64Array,
    unit: Option<TimeUnit>,
    zoned: bool,
}

impl ValueEncoder for FarTimes {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let value = self.values.value(row);
        let mut text = Vec::new();
        let written = match self.unit {
            Some(unit) => write_timestamp(value, unit, b' ', self.zoned, &mut text),
            None => write_date(value, &mut text),
        };
        match written {
            Ok(()) => {
                out.push(b'"');
                out.extend_from_slice(&text);
                out.push(b'"');
            }
            Err(_) => out.extend_from_slice(value.to_string().as_bytes()),
        }
    }
}

/// Floats that JSON has no number for, bytes, and times that it has no text for.
#[derive(Debug)]
struct FlinkValues {
    /// Times outside the years 0000 to 9999 may come: they were not refused before.
    has_far_times: bool,
}

impl EncoderFactory for FlinkValues {
    fn make_default_encoder<'a>(
        &self,
        _field: &'a FieldRef,
        array: &'a dyn Array,
        options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let encoder: Box<dyn ValueEncoder + 'a> = match array.data_type() {
            DataType::Float64 if array.as_primitive::<Float64Type>().values().iter().any(|v| !v.is_finite()) => {
                Box::new(FloatEncoder(array.as_primitive::<Float64Type>().values(), |v| *v))
            }
            DataType::Float32 if array.as_primitive::<Float32Type>().values().iter().any(|v| !v.is_finite()) => {
                Box::new(FloatEncoder(array.as_primitive::<Float32Type>().values(), |v| f64::from(*v)))
            }
            DataType::Binary => Box::new(Base64Encoder(array.as_binary())),
            DataType::Timestamp(_, _) | DataType::Date32 if self.has_far_times && refuse_far_times(array).is_err() => {
                let values = as_integers(array).map_err(|e| ArrowError::JsonError(e.to_string()))?;
                let (unit, zoned) = match array.data_type() {
                    DataType::Timestamp(unit, zone) => (Some(*unit), zone.is_some()),
                    _ => (None, false),
                };
                Box::new(FarTimes { values, unit, zoned })
            }
            DataType::Map(entries, _) if !options.explicit_nulls() => {
                let DataType::Struct(pair) = entries.data_type() else { return Ok(None) };
                let [key, value] = pair.as_ref() else { return Ok(None) };
                let map = array.as_map();
                Box::new(MapEncoder {
                    offsets: map.value_offsets(),
                    keys: make_encoder(key, map.keys(), options)?,
                    values: make_encoder(value, map.values(), options)?,
                })
            }
            _ => return Ok(None),
        };
        Ok(Some(NullableEncoder::new(encoder, array.nulls().cloned())))
    }
}

struct Base64Encoder<'a>(&'a BinaryArray);

impl ValueEncoder for Base64Encoder<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        out.push(b'"');
        out.extend_from_slice(STANDARD.encode(self.0.value(row)).as_bytes());
        out.push(b'"');
    }
}

/// A map with all its entries: an entry that is NULL is no field that may be left out.
struct MapEncoder<'a> {
    offsets: &'a [i32],
    keys: NullableEncoder<'a>,
    values: NullableEncoder<'a>,
}

impl ValueEncoder for MapEncoder<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let at = |index: usize| self.offsets.get(index).and_then(|o| usize::try_from(*o).ok()).unwrap_or_default();
        out.push(b'{');
        for entry in at(row)..at(row + 1) {
            if entry > at(row) {
                out.push(b',');
            }
            self.keys.encode(entry, out);
            out.push(b':');
            if self.values.is_null(entry) {
                out.extend_from_slice(b"null");
            } else {
                self.values.encode(entry, out);
            }
        }
        out.push(b'}');
    }
}

struct FloatEncoder<'a, T>(&'a [T], fn(&T) -> f64);

impl<T: std::fmt::Debug> ValueEncoder for FloatEncoder<'_, T> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let value = self.1(&self.0[row]);
        if value.is_nan() {
            out.extend_from_slice(b"\"NaN\"");
        } else if value.is_infinite() {
            out.extend_from_slice(if value > 0.0 { b"\"Infinity\"" } else { b"\"-Infinity\"" });
        } else {
            // The Debug form of a float is the shortest that reads back to the same value.
            out.extend_from_slice(format!("{:?}", self.0[row]).as_bytes());
        }
    }
}
