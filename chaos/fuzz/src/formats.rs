//! Files that jobs read: CSV, JSON, Parquet and Arrow, plain and compressed, through the file source.
//!
//! Whatever is in a file, the source gives rows and dead letters, or one error that is the file's. What it gives is
//! sound, the same each time, and goes on from any position without losing or doubling a record.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Decimal128Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
    TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef, TimeUnit};
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{WriterProperties, WriterVersion};
use qanat_connectors::Registry;
use qanat_connectors::contract::{Context, Opener, ReadOutcome, ReadRequest, Source, Split, StopFlag};
use qanat_proto::Code;
use qanat_proto::connector::TableDescriptor;
use qanat_proto::error::Result;
use qanat_storage::env::Env;
use qanat_storage::log::Topics;
use serde_json::Value;

use crate::mutate::Form;
use crate::verdict::{refused, sound};
use crate::{ROOMY, Seed, Target, Verdict};

/// Codes of a file that is not what it should be.
const DAMAGED: &[Code] = &[Code::CorruptInput, Code::HeaderMismatch];
/// Rows of a batch: few, so that there are positions in between.
const BATCH_ROWS: usize = 5;

/// A dozen rows of most kinds of columns.
pub(crate) fn rows() -> RecordBatch {
    let numbers: Int64Array = (0..12).map(|n| (n % 7 != 3).then_some(n * 1_000_003)).collect();
    let texts: StringArray = (0..12).map(|n| (n % 5 != 1).then(|| format!("text {}", n % 4))).collect();
    let lists: Vec<_> = (0..12).map(|n| (n % 6 != 2).then(|| (0..n % 4).map(Some).collect::<Vec<_>>())).collect();
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(lists);
    let inner: ArrayRef = Arc::new((0..12).map(|n| (n % 3 != 0).then_some(n)).collect::<Int32Array>());
    let structs = StructArray::new(vec![Field::new("x", DataType::Int32, true)].into(), vec![inner], None);
    let decimals: Decimal128Array = (0..12).map(|n| Some(n * 1_234_567)).collect();
    let times: TimestampMillisecondArray = (0..12).map(|n| Some(1_357_000_000_000 + n)).collect();
    RecordBatch::try_from_iter_with_nullable([
        ("n", Arc::new(numbers) as ArrayRef, true),
        ("s", Arc::new(texts), true),
        ("l", Arc::new(lists), true),
        ("r", Arc::new(structs), true),
        ("d", Arc::new(decimals.with_precision_and_scale(20, 2).expect("they fit")), true),
        ("t", Arc::new(times), true),
    ])
    .expect("columns of one length")
}

/// Each row as a text.
pub(crate) fn texts(rows: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("∅");
    let columns: Vec<ArrayFormatter<'_>> = rows
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).expect("every type has a text"))
        .collect();
    // A value outside of what its type can show (a year 300,000) has an error for a text.
    let text = |row| {
        let value = |column: &ArrayFormatter<'_>| column.value(row).try_to_string().unwrap_or_else(|e| e.to_string());
        columns.iter().map(value).collect::<Vec<_>>().join("|")
    };
    (0..rows.num_rows()).map(text).collect()
}

/// One file of a table.
struct Case<'a> {
    name: &'a str,
    schema: SchemaRef,
    options: &'a [(&'a str, &'a str)],
}

/// What was read from a position on: rows and dead letters in order, each as a text, and the positions in between.
#[derive(Debug, Default, PartialEq)]
struct Taken {
    records: Vec<String>,
    /// After so many records.
    positions: Vec<(usize, Value)>,
}

impl Case<'_> {
    fn source(&self, bytes: &[u8]) -> Result<Arc<dyn Source>> {
        let sim = Env::sim(1);
        crate::documents::put(&sim.env, &Path::new("/in").join(self.name), bytes);
        let mut options: std::collections::BTreeMap<String, String> =
            self.options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        options.insert("path".to_owned(), format!("/in/{}", self.name));
        options.insert("connector".to_owned(), "filesystem".to_owned());
        let table = TableDescriptor {
            name: "t".to_owned(),
            connector: "filesystem".to_owned(),
            options,
            physical: Arc::clone(&self.schema),
            metadata: Vec::new(),
            primary_key: Vec::new(),
            partitioned_by: Vec::new(),
        };
        let topics = Arc::new(Topics::open_read_only(sim.env.clone(), "/topics"));
        let registry = Registry::new(Context { env: sim.env, topics, base: "/".into() });
        let request = ReadRequest {
            projection: (0..self.schema.fields().len()).collect(),
            unread: Vec::new(),
            metadata: Vec::new(),
            batch_rows: BATCH_ROWS,
            bounded: true,
            filter: None,
        };
        registry.source(&table, request)
    }

    fn take(&self, source: &dyn Source, split: &Split, from: &Value) -> Result<Taken> {
        let mut reader = source.open(split, from)?;
        let mut taken = Taken::default();
        loop {
            let batch = match reader.next(&StopFlag::default())? {
                ReadOutcome::Batch(batch) => batch,
                ReadOutcome::Pending => continue,
                ReadOutcome::Away | ReadOutcome::End => return Ok(taken),
            };
            sound(&batch.rows);
            assert_eq!(batch.rows.schema_ref().fields(), self.schema.fields());
            assert_eq!(
                batch.records as usize,
                batch.rows.num_rows() + batch.dead_letters.len(),
                "each is one or other"
            );
            taken.records.extend(texts(&batch.rows));
            for letter in &batch.dead_letters {
                assert!(!letter.reason.is_empty());
                taken.records.push(format!("dead at {}: {}", letter.offset, letter.reason));
            }
            taken.positions.push((taken.records.len(), batch.position));
        }
    }

    /// Reads the file in full, and again from a position in the middle of each split.
    fn check(&self, bytes: &[u8]) -> Verdict {
        match self.read(bytes) {
            Ok(true) => Verdict::Accepted,
            Ok(false) => Verdict::Refused,
            Err(error) => refused(&error, DAMAGED),
        }
    }

    /// Whether there was a good row.
    fn read(&self, bytes: &[u8]) -> Result<bool> {
        let source = self.source(bytes)?;
        let mut has_rows = false;
        for split in source.discover()? {
            let whole = self.take(source.as_ref(), &split, &split.start);
            let again = self.take(source.as_ref(), &split, &split.start);
            match (&whole, &again) {
                (Ok(whole), Ok(again)) => assert_eq!(again.records, whole.records, "the same each time"),
                (Err(whole), Err(again)) => assert_eq!(again.code(), whole.code(), "the same each time"),
                (whole, again) => panic!("first {whole:?}, then {again:?}"),
            }
            let whole = whole?;
            let (count, middle) = match whole.positions.get(whole.positions.len() / 2) {
                Some((count, middle)) => (*count, middle),
                None => continue,
            };
            let rest = self.take(source.as_ref(), &split, middle)?;
            // Within a batch rows stand before dead letters; batches of the rest may be cut elsewhere.
            let sorted = |records: &[String]| {
                let mut records = records.to_vec();
                records.sort();
                records
            };
            assert_eq!(sorted(&rest.records), sorted(&whole.records[count..]), "what follows a position");
            has_rows |= whole.records.iter().any(|record| !record.starts_with("dead at "));
        }
        Ok(has_rows)
    }
}

fn text_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("a", DataType::Int32, true),
        Field::new("b", DataType::Utf8, true),
        Field::new("d", DataType::Decimal128(20, 2), true),
        Field::new("t", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("f", DataType::Float64, true),
        Field::new("l", DataType::List(Arc::new(Field::new("item", DataType::Int32, true))), true),
    ]))
}

/// Options by the first byte of an input.
const CSV_OPTIONS: &[&[(&str, &str)]] = &[
    &[("format", "csv")],
    &[("format", "csv"), ("csv.header", "true"), ("csv.null-literal", "NA")],
    &[("format", "csv"), ("csv.header", "false"), ("dead-letter.policy", "null")],
    &[("format", "csv"), ("csv.multiline", "false"), ("csv.field-delimiter", ";"), ("csv.escape-character", "\\")],
    &[("format", "csv"), ("csv.disable-quote-character", "true"), ("csv.allow-comments", "true")],
];

/// A CSV file; its first byte chooses the options.
pub const CSV: Target =
    Target { name: "csv", body: csv, form: Form::Text, meaning: None, seeds: csv_seeds, rounds: 800, memory: ROOMY };

fn chosen<'a>(
    input: &'a [u8],
    options: &'static [&'static [(&'static str, &'static str)]],
) -> Option<(Case<'static>, &'a [u8])> {
    let (first, bytes) = input.split_first()?;
    let options = options.get(usize::from(first.checked_sub(b'0')?))?;
    Some((Case { name: "a.txt", schema: text_schema(), options }, bytes))
}

fn csv(input: &[u8]) -> Verdict {
    chosen(input, CSV_OPTIONS).map_or(Verdict::Refused, |(case, bytes)| case.check(bytes))
}

fn csv_text(delimiter: char) -> String {
    let line = |n: i32| {
        let fields = [
            n.to_string(),
            format!("\"text, \"\"{n}\"\"\""),
            format!("{}.5", n * 3),
            format!("2013-01-{:02} 10:00:00", n % 28 + 1),
            format!("{n}e-1"),
            format!("{n}"),
        ];
        format!("{}\n", fields.join(&delimiter.to_string()))
    };
    (0..14).map(line).collect()
}

fn csv_seeds() -> Vec<Seed> {
    let header = "a,b,d,t,f,l\n";
    let plain = csv_text(',');
    let seed = |name: &str, option: char, text: &str| (name.to_owned(), format!("{option}{text}").into_bytes());
    vec![
        seed("ok-auto", '0', &format!("{header}{plain}")),
        seed("ok-header", '1', &format!("{header}{}NA,NA,NA,NA,NA,NA\n", plain.replace("text", "té\nxt"))),
        seed("ok-no-header", '2', &plain),
        seed("ok-semicolons", '3', &csv_text(';').replace("\"\"", "\\\"")),
        seed("ok-comments", '4', &format!("# first\n{}", plain.replace('"', "").replace("text, ", "text "))),
        seed("ok-dead-letters", '1', &format!("{header}x,y,z\n\n1,\"a\"b,1,1,1,1\n{plain}")),
        seed("bad-header", '1', "a,b\n1,2\n"),
        seed("bad-open-quote", '0', "a,b,d,t,f,l\n\"1"),
    ]
}

const JSON_OPTIONS: &[&[(&str, &str)]] = &[
    &[("format", "json")],
    &[("format", "json"), ("json.timestamp-format.standard", "ISO-8601"), ("dead-letter.policy", "null")],
    &[("format", "json"), ("json.fail-on-missing-field", "true")],
];

/// A file of JSON lines; its first byte chooses the options.
pub const JSON: Target =
    Target { name: "json", body: json, form: Form::Text, meaning: None, seeds: json_seeds, rounds: 800, memory: ROOMY };

fn json(input: &[u8]) -> Verdict {
    chosen(input, JSON_OPTIONS).map_or(Verdict::Refused, |(case, bytes)| case.check(bytes))
}

fn json_text() -> String {
    let line = |n: i32| {
        format!(
            "{{\"a\":{n},\"b\":\"t\\u00e9xt {n}\",\"l\":[1,null,{n}],\"d\":-{n}.25e1,\"f\":1e-{n},\"t\":\"2013-01-01 10:00:{n:02}\"}}\n"
        )
    };
    (0..14).map(line).collect()
}

fn json_seeds() -> Vec<Seed> {
    let seed = |name: &str, option: char, text: &str| (name.to_owned(), format!("{option}{text}").into_bytes());
    let text = json_text();
    vec![
        seed("ok-lines", '0', &text),
        seed("ok-iso", '1', &text.replace("01 10", "01T10")),
        seed("ok-all-fields", '2', &text),
        seed("ok-dead-letters", '0', &format!("{{\"a\":\n[1]\nnull\n{{\"a\":{{}}}}\n{{\"b\":\"\\ud800\"}}\n{text}")),
        seed("ok-unknown-fields", '0', &text.replace("\"f\"", "\"g\":{\"x\":[{}]},\"f\"")),
        seed("bad-nothing", '0', "{\n"),
    ]
}

/// A Parquet file of the columns of [`rows`].
pub const PARQUET: Target = Target {
    name: "parquet",
    body: parquet,
    form: Form::Bytes,
    meaning: None,
    seeds: parquet_seeds,
    rounds: 250,
    memory: ROOMY,
};

fn parquet(input: &[u8]) -> Verdict {
    Case { name: "a.parquet", schema: rows().schema(), options: &[("format", "parquet")] }.check(input)
}

fn parquet_seeds() -> Vec<Seed> {
    let file = |codec: Compression, version: WriterVersion| {
        let rows = rows();
        let properties = WriterProperties::builder()
            .set_compression(codec)
            .set_writer_version(version)
            .set_max_row_group_row_count(Some(7))
            .build();
        let mut bytes = Vec::new();
        let mut writer =
            parquet::arrow::ArrowWriter::try_new(&mut bytes, rows.schema(), Some(properties)).expect("a writer");
        writer.write(&rows).expect("rows");
        writer.close().expect("a footer");
        bytes
    };
    vec![
        ("ok-plain".to_owned(), file(Compression::UNCOMPRESSED, WriterVersion::PARQUET_1_0)),
        ("ok-snappy".to_owned(), file(Compression::SNAPPY, WriterVersion::PARQUET_2_0)),
        ("ok-zstd".to_owned(), file(Compression::ZSTD(ZstdLevel::default()), WriterVersion::PARQUET_1_0)),
        ("bad-magic".to_owned(), b"PAR1PAR1".to_vec()),
    ]
}

/// An Arrow file or stream of the columns of [`rows`].
pub const ARROW: Target = Target {
    name: "arrow",
    body: arrow_ipc,
    form: Form::Bytes,
    meaning: None,
    seeds: arrow_seeds,
    rounds: 600,
    memory: ROOMY,
};

fn arrow_ipc(input: &[u8]) -> Verdict {
    Case { name: "a.arrow", schema: rows().schema(), options: &[("format", "arrow")] }.check(input)
}

fn arrow_file(codec: Option<CompressionType>) -> Vec<u8> {
    let rows = rows();
    let options = IpcWriteOptions::default().try_with_compression(codec).expect("options");
    let mut writer = FileWriter::try_new_with_options(Vec::new(), &rows.schema(), options).expect("a writer");
    for from in [0, 4, 8] {
        writer.write(&rows.slice(from, 4)).expect("rows");
    }
    writer.into_inner().expect("a footer")
}

fn arrow_stream() -> Vec<u8> {
    let rows = rows();
    let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema()).expect("a writer");
    for from in [0, 6] {
        writer.write(&rows.slice(from, 6)).expect("rows");
    }
    writer.into_inner().expect("an end")
}

fn arrow_seeds() -> Vec<Seed> {
    vec![
        ("ok-file".to_owned(), arrow_file(None)),
        ("ok-file-lz4".to_owned(), arrow_file(Some(CompressionType::LZ4_FRAME))),
        ("ok-stream".to_owned(), arrow_stream()),
        ("bad-magic".to_owned(), b"ARROW1\0\0ARROW1".to_vec()),
    ]
}

/// Compressed files; the first byte says of what and how.
pub const COMPRESSED: Target = Target {
    name: "compressed",
    body: compressed,
    form: Form::Bytes,
    meaning: None,
    seeds: compressed_seeds,
    rounds: 500,
    memory: ROOMY,
};

fn compressed(input: &[u8]) -> Verdict {
    let Some((first, bytes)) = input.split_first() else { return Verdict::Refused };
    if *first == b'4' {
        // Damage below the compression, which a checksum would hide.
        return Case { name: "a.csv.gz", schema: text_schema(), options: &[("format", "csv")] }.check(&gzip(bytes));
    }
    let (name, format) = match first {
        b'0' => ("a.csv.gz", "csv"),
        b'1' => ("a.csv.zst", "csv"),
        b'2' => ("a.json.gz", "json"),
        b'3' => ("a.arrows.zst", "arrow"),
        _ => return Verdict::Refused,
    };
    let schema = if format == "arrow" { rows().schema() } else { text_schema() };
    Case { name, schema, options: &[("format", format)] }.check(bytes)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("compresses")
}

fn compressed_seeds() -> Vec<Seed> {
    let zstd = |bytes: &[u8]| {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
        encoder.include_checksum(true).expect("checksums");
        encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("compresses")
    };
    let csv = format!("a,b,d,t,f,l\n{}", csv_text(','));
    let with = |option: char, bytes: Vec<u8>| [vec![option as u8], bytes].concat();
    let bomb = gzip(&vec![b'1'; 4 << 20]);
    vec![
        ("ok-csv-gzip".to_owned(), with('0', gzip(csv.as_bytes()))),
        ("ok-csv-zstd".to_owned(), with('1', zstd(csv.as_bytes()))),
        ("ok-json-gzip".to_owned(), with('2', gzip(json_text().as_bytes()))),
        ("ok-arrow-zstd".to_owned(), with('3', zstd(&arrow_stream()))),
        ("ok-csv-within".to_owned(), with('4', csv.clone().into_bytes())),
        ("bad-bomb".to_owned(), with('0', bomb)),
        ("bad-not-compressed".to_owned(), with('0', csv.into_bytes())),
    ]
}
