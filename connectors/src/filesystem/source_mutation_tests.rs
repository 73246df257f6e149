//! Files that were whole, with bytes flipped, cut, doubled and exchanged: whatever comes of it, the source
//! gives rows, dead letters or an error with a code of the file, and no panic.
//!
//! `QANAT_SEED=n` chooses other mutations, `QANAT_MUTATIONS=n` how many of each file.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{
    ArrayRef, Decimal128Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
    TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Int32Type, TimeUnit};
use qanat_proto::error::{Code, Result};
use qanat_storage::env::sim::Random;

use super::{Case, Folder, INT, STRING, case, dead_letters_of};
use crate::contract::{ReadOutcome, SourceBatch, StopFlag};
use crate::suite::source::rows_of;

const BYTES: &[u8] = b"\x00\x01\x7f\x80\xff\n\r\",{}[]:;-+.eE0\\u#' ";

fn mutated(random: &Random, whole: &[u8]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..=random.index(3) {
        let (at, to) = (random.index(bytes.len()), random.index(bytes.len()));
        let end = (at + 1 + random.index(16)).min(bytes.len());
        match random.index(8) {
            0 | 1 if !bytes.is_empty() => bytes[at] ^= 1 << random.index(8),
            2 if !bytes.is_empty() => bytes[at] = BYTES[random.index(BYTES.len())],
            3 => bytes.truncate(at),
            4 if !bytes.is_empty() => drop(bytes.drain(at..end)),
            5 if !bytes.is_empty() => {
                let piece = bytes[at..end].to_vec();
                drop(bytes.splice(to..to, piece));
            }
            6 if end <= bytes.len() && end - at >= 4 => {
                let wide = [u32::MAX, 0, 0x7fff_ffff, 0x8000_0000][random.index(4)];
                bytes[at..at + 4].copy_from_slice(&wide.to_le_bytes());
            }
            _ => bytes.insert(at.min(bytes.len()), BYTES[random.index(BYTES.len())]),
        }
    }
    bytes
}

fn rows() -> RecordBatch {
    let numbers: Int64Array = (0..40).map(|n| (n % 7 != 3).then_some(n * 1_000_003)).collect();
    let texts: StringArray = (0..40).map(|n| (n % 5 != 1).then(|| format!("text {}", n % 11))).collect();
    let lists: Vec<_> = (0..40).map(|n| (n % 6 != 2).then(|| (0..n % 4).map(Some).collect::<Vec<_>>())).collect();
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(lists);
    let inner: ArrayRef = Arc::new((0..40).map(|n| (n % 3 != 0).then_some(n)).collect::<Int32Array>());
    let fields = vec![Field::new("x", INT, true)].into();
    let structs = StructArray::new(fields, vec![inner], None);
    let decimals: Decimal128Array = (0..40).map(|n| Some(n * 1_234_567)).collect();
    let times: TimestampMillisecondArray = (0..40).map(|n| Some(1_357_000_000_000 + n)).collect();
    RecordBatch::try_from_iter_with_nullable([
        ("n", Arc::new(numbers) as ArrayRef, true),
        ("s", Arc::new(texts), true),
        ("l", Arc::new(lists), true),
        ("r", Arc::new(structs), true),
        ("d", Arc::new(decimals.with_precision_and_scale(20, 2).expect("it fits")), true),
        ("t", Arc::new(times), true),
    ])
    .expect("columns of one length")
}

fn parquet(codec: parquet::basic::Compression, version: parquet::file::properties::WriterVersion) -> Vec<u8> {
    let rows = rows();
    let properties = parquet::file::properties::WriterProperties::builder()
        .set_compression(codec)
        .set_writer_version(version)
        .set_max_row_group_row_count(Some(16))
        .build();
    let mut bytes = Vec::new();
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(&mut bytes, rows.schema(), Some(properties)).expect("a writer");
    writer.write(&rows).expect("rows");
    writer.close().expect("a footer");
    bytes
}

fn arrow_file(codec: Option<arrow::ipc::CompressionType>) -> Vec<u8> {
    let rows = rows();
    let options = arrow::ipc::writer::IpcWriteOptions::default().try_with_compression(codec).expect("options");
    let mut writer =
        arrow::ipc::writer::FileWriter::try_new_with_options(Vec::new(), &rows.schema(), options).expect("a writer");
    for from in [0, 16, 32] {
        writer.write(&rows.slice(from, 8)).expect("rows");
    }
    writer.into_inner().expect("a footer")
}

fn arrow_stream() -> Vec<u8> {
    let rows = rows();
    let mut writer = arrow::ipc::writer::StreamWriter::try_new(Vec::new(), &rows.schema()).expect("a writer");
    for from in [0, 16, 32] {
        writer.write(&rows.slice(from, 8)).expect("rows");
    }
    writer.into_inner().expect("an end")
}

fn csv() -> Vec<u8> {
    let line = |n: i32| format!("{n},\"text, {n}\",{}.5,2013-01-{:02} 10:00:00\n", n * 3, n % 28 + 1);
    format!("a,b,d,t\n{}", (0..40).map(line).collect::<String>()).into_bytes()
}

fn json() -> Vec<u8> {
    let line = |n: i32| {
        format!("{{\"a\":{n},\"b\":\"t\\u00e9xt {n}\",\"l\":[1,null,{n}],\"r\":{{\"x\":{n}}},\"d\":-{n}.25e1}}\n")
    };
    (0..40).map(line).collect::<String>().into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).expect("compresses");
    gzip.finish().expect("compresses")
}

fn zstd_checked(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
    encoder.include_checksum(true).expect("checksums");
    encoder.write_all(bytes).expect("compresses");
    encoder.finish().expect("compresses")
}

fn columns(format: &str) -> Vec<(&'static str, DataType)> {
    let (decimal, time) = (DataType::Decimal128(20, 2), DataType::Timestamp(TimeUnit::Millisecond, None));
    let list = DataType::List(Arc::new(Field::new("item", INT, true)));
    let row = DataType::Struct(vec![Field::new("x", INT, true)].into());
    match format {
        "csv" => vec![("a", INT), ("b", STRING), ("d", decimal), ("t", time)],
        "json" => vec![("a", INT), ("b", STRING), ("l", list), ("r", row), ("d", decimal)],
        _ => vec![("n", DataType::Int64), ("s", STRING), ("l", list), ("r", row), ("d", decimal), ("t", time)],
    }
}

/// All rows and the number of dead letters.
fn read(case: &Case, folder: &Folder) -> Result<(Option<RecordBatch>, usize)> {
    let source = case.try_source(&folder.0)?;
    let mut batches: Vec<SourceBatch> = Vec::new();
    for split in source.discover()? {
        let mut reader = source.open(&split, &split.start)?;
        while let ReadOutcome::Batch(batch) = reader.next(&StopFlag::default())? {
            batches.push(batch);
        }
    }
    Ok((rows_of(&batches), dead_letters_of(&batches).len()))
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn no_mutation_of_a_file_panics() {
    use parquet::basic::{Compression, ZstdLevel};
    use parquet::file::properties::WriterVersion::{PARQUET_1_0, PARQUET_2_0};
    let files: [(&str, &str, Vec<u8>); 12] = [
        ("csv", "a.csv", csv()),
        ("csv", "a.csv.gz", gzip(&csv())),
        ("csv", "a.csv.zst", zstd_checked(&csv())),
        ("json", "a.json", json()),
        ("json", "a.json.gz", gzip(&json())),
        ("parquet", "a.parquet", parquet(Compression::UNCOMPRESSED, PARQUET_1_0)),
        ("parquet", "b.parquet", parquet(Compression::SNAPPY, PARQUET_2_0)),
        ("parquet", "c.parquet", parquet(Compression::ZSTD(ZstdLevel::default()), PARQUET_1_0)),
        ("arrow", "a.arrow", arrow_file(None)),
        ("arrow", "b.arrow", arrow_file(Some(arrow::ipc::CompressionType::LZ4_FRAME))),
        ("arrow", "a.arrows", arrow_stream()),
        ("arrow", "a.arrows.zst", zstd_checked(&arrow_stream())),
    ];
    let (seed, count) = (number("QANAT_SEED", 1), number("QANAT_MUTATIONS", 40));
    let mut failures = Vec::new();
    for (index, (format, name, whole)) in files.iter().enumerate() {
        let folder = Folder::new();
        let case = case(&columns(format), &[("path", *name), ("format", *format)]);
        folder.write(name, whole);
        let (good, _) = read(&case, &folder).expect("the whole file");
        assert!(good.as_ref().is_some_and(|rows| rows.num_rows() >= 24), "{name}");
        for round in 0..count {
            let random = Random::new(seed.wrapping_mul(0x1000_0000_01b3) ^ (index as u64) << 32 ^ round);
            let bytes = mutated(&random, whole);
            folder.write(name, &bytes);
            let started = Instant::now();
            let failure = match catch_unwind(AssertUnwindSafe(|| read(&case, &folder))) {
                Err(_) => Some("it panics".to_owned()),
                Ok(Err(error)) if [Code::CorruptInput, Code::HeaderMismatch].contains(&error.code()) => None,
                Ok(Err(error)) => Some(error.to_string()),
                // Checksums stand in these: what is read is what was written, or it was not read at all.
                Ok(Ok((rows, _))) if name.ends_with(".gz") || name.ends_with(".zst") => {
                    (rows != good && !bytes.is_empty()).then(|| "other rows".to_owned())
                }
                Ok(Ok(_)) => None,
            };
            // A read takes some milliseconds; the limit is for machines that are busy with other work.
            let slow = (started.elapsed().as_secs() >= number("QANAT_SLOW", 30)).then(|| "slow".to_owned());
            if let Some(failure) = failure.or(slow) {
                if let Ok(kept) = std::env::var("QANAT_KEEP") {
                    std::fs::write(format!("{kept}/{round}-{name}"), &bytes).expect("kept");
                }
                failures.push(format!("{name}, round {round}: {failure}"));
            }
        }
    }
    assert!(failures.is_empty(), "{} failures, seed {seed}:\n{}", failures.len(), failures.join("\n"));
}

/// The process would end at the first length that is believed: it has not as much memory.
#[test]
fn no_length_of_an_arrow_file_is_believed() {
    const LENGTH: i64 = 1 << 45;
    let folder = Folder::new();
    let compressed = arrow_file(Some(arrow::ipc::CompressionType::LZ4_FRAME));
    for (name, whole) in [("a.arrow", compressed), ("a.arrows", arrow_stream())] {
        let case = case(&columns("arrow"), &[("path", name), ("format", "arrow")]);
        let mut refused = 0;
        for at in (0..whole.len() - 8).step_by(8) {
            let mut bytes = whole.clone();
            bytes[at..at + 8].copy_from_slice(&LENGTH.to_le_bytes());
            folder.write(name, &bytes);
            if let Err(error) = read(&case, &folder) {
                assert!([Code::CorruptInput, Code::HeaderMismatch].contains(&error.code()), "{name}, {at}: {error}");
                refused += 1;
            }
        }
        assert!(refused > 100, "{name}: {refused}");
    }
}
