//! The filesystem source over the real disk: formats, splits, positions, damage.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, TimeUnit};
use qanat_proto::connector::{MetadataKind, TableDescriptor};
use qanat_proto::error::{Code, Error, Result};
use qanat_storage::env::Env;

#[path = "source_change_tests.rs"]
mod changes;
#[path = "source_mutation_tests.rs"]
mod mutations;

use super::FilesystemSource;
use crate::contract::{DeadLetter, ReadOutcome, ReadRequest, Source, StopFlag};
use crate::format;
use crate::options::Options;
use crate::predicate::{Comparison, Predicate, PushedFilter};
use crate::suite::source::{dead_letters_of, drain, prove, rows_of};

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("qanat-source-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a folder for the test");
        Self(path)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> &Self {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        std::fs::write(path, bytes).expect("a file for the test");
        self
    }

    fn append(&self, name: &str, bytes: &str) {
        let mut file = std::fs::OpenOptions::new().append(true).open(self.0.join(name)).expect("it exists");
        file.write_all(bytes.as_bytes()).expect("it can be written");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Case {
    table: TableDescriptor,
    request: ReadRequest,
    split_bytes: Option<u64>,
}

fn case(columns: &[(&str, DataType)], options: &[(&str, &str)]) -> Case {
    let fields: Vec<Field> = columns.iter().map(|(name, t)| Field::new(*name, t.clone(), true)).collect();
    let mut pairs: std::collections::BTreeMap<String, String> =
        options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    pairs.insert("connector".to_owned(), "filesystem".to_owned());
    Case {
        request: ReadRequest {
            projection: (0..fields.len()).collect(),
            unread: Vec::new(),
            metadata: Vec::new(),
            batch_rows: 3,
            bounded: !pairs.contains_key("source.monitor-interval"),
            filter: None,
        },
        table: TableDescriptor {
            name: "t".to_owned(),
            connector: "filesystem".to_owned(),
            options: pairs,
            physical: Arc::new(Schema::new(fields)),
            metadata: Vec::new(),
            primary_key: Vec::new(),
            partitioned_by: Vec::new(),
        },
        split_bytes: None,
    }
}

impl Case {
    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn try_source(&self, base: &Path) -> Result<Arc<dyn Source>> {
        let format = format::of_table(&self.table, format::NAMES)?;
        let options = Options::check(&self.table, &[&super::OPTIONS, format.options])?;
        let source = FilesystemSource::new(&Env::real(), base, &self.table, &options, self.request.clone())?;
        Ok(Arc::new(match self.split_bytes {
            Some(bytes) => source.with_split_bytes(bytes),
            None => source,
        }))
    }

    fn source(&self, base: &Folder) -> Arc<dyn Source> {
        self.try_source(&base.0).expect("good options")
    }

    /// All rows and dead letters, split by split, and the proof of the contract.
    fn read(&self, base: &Folder) -> (Option<RecordBatch>, Vec<DeadLetter>) {
        let source = self.source(base);
        prove(&source);
        let mut batches = Vec::new();
        for split in source.discover().expect("splits") {
            let drained = drain(source.as_ref(), &split, &split.start);
            assert_eq!(drained.ended, self.request.bounded || self.table.option("format") == Some("parquet"));
            batches.extend(drained.batches);
        }
        (rows_of(&batches), dead_letters_of(&batches))
    }

    fn error(&self, base: &Folder) -> Error {
        let found = self.try_source(&base.0).and_then(|source| {
            for split in source.discover()? {
                let mut reader = source.open(&split, &split.start)?;
                while let ReadOutcome::Batch(_) = reader.next(&StopFlag::default())? {}
            }
            Ok(())
        });
        found.expect_err("the read fails")
    }
}

fn ints(rows: &Option<RecordBatch>, column: usize) -> Vec<Option<i32>> {
    rows.as_ref().map_or_else(Vec::new, |r| r.column(column).as_primitive::<Int32Type>().iter().collect())
}

fn longs(rows: &Option<RecordBatch>, column: usize) -> Vec<i64> {
    rows.as_ref().map_or_else(Vec::new, |r| r.column(column).as_primitive::<Int64Type>().values().to_vec())
}

fn texts(rows: &Option<RecordBatch>, column: usize) -> Vec<Option<String>> {
    let strings = |r: &RecordBatch| r.column(column).as_string::<i32>().iter().map(|s| s.map(str::to_owned)).collect();
    rows.as_ref().map_or_else(Vec::new, strings)
}

const INT: DataType = DataType::Int32;
const STRING: DataType = DataType::Utf8;

#[test]
fn csv_by_header_by_position_and_projected() {
    let folder = Folder::new();
    folder.write("h.csv", "extra,B,a\nx,one,1\ny,\"two, \"\"2\"\"\",2\r\nz,,\n\nw,four,4");
    folder.write("p.csv", "1,one\n2,two\n");
    let columns = [("a", INT), ("b", STRING)];
    let (rows, dead) = case(&columns, &[("path", "h.csv"), ("format", "csv")]).read(&folder);
    assert_eq!(ints(&rows, 0), [Some(1), Some(2), None, Some(4)]);
    let some = |t: &str| Some(t.to_owned());
    assert_eq!(texts(&rows, 1), [some("one"), some("two, \"2\""), some(""), some("four")]);
    assert!(dead.is_empty());
    let (rows, _) = case(&columns, &[("path", "p.csv"), ("format", "csv")]).read(&folder);
    assert_eq!(ints(&rows, 0), [Some(1), Some(2)]);
    let only_b = case(&columns, &[("path", "h.csv"), ("format", "csv")]).with(|c| c.request.projection = vec![1]);
    assert_eq!(texts(&only_b.read(&folder).0, 0).len(), 4);
    let none = case(&columns, &[("path", "h.csv"), ("format", "csv")]).with(|c| c.request.projection = vec![]);
    assert_eq!(none.read(&folder).0.map(|r| r.num_rows()), Some(4));
}

#[test]
fn bad_csv_records_become_dead_letters_with_their_row() {
    let folder = Folder::new();
    let text = b"a,b\n1,x\nnine,y\n3,z,3\n4,\xff\n5,ok\n\"6,open\n7,ok\n";
    folder.write("bad.csv", text);
    let case = case(&[("a", INT), ("b", STRING)], &[("path", "bad.csv"), ("format", "csv")]);
    let case = case.with(|c| c.request.metadata = vec![("n".to_owned(), MetadataKind::Offset)]);
    let (rows, dead) = case.read(&folder);
    assert_eq!(ints(&rows, 0), [Some(1), Some(5), Some(7)]);
    assert_eq!(longs(&rows, 2), [0, 4, 6]);
    let seen: Vec<(i64, &str, &[u8])> = dead.iter().map(|d| (d.offset, d.reason.as_str(), d.raw.as_slice())).collect();
    assert_eq!(
        seen,
        [
            (1, "column `a`: `nine` is not INT", b"nine,y".as_slice()),
            (2, "expected 2 fields, found 3", b"3,z,3"),
            (3, "invalid UTF-8 at byte 2 of the record", b"4,\xff"),
            (5, "a quoted field is not closed", b"\"6,open"),
        ]
    );
    assert_eq!(dead.first().map(|d| d.origin.as_str()), Some("bad.csv"));

    let null = case.with(|c| {
        c.table.options.insert("dead-letter.policy".to_owned(), "null".to_owned());
    });
    let (rows, dead) = null.read(&folder);
    assert_eq!(ints(&rows, 0), [Some(1), None, Some(5), Some(7)]);
    assert_eq!(dead.len(), 3);
    let fail = null.with(|c| {
        c.table.options.insert("dead-letter.policy".to_owned(), "fail".to_owned());
    });
    let error = fail.error(&folder);
    assert_eq!(error.code(), Code::BadRecord);
    assert_eq!(error.place().map(ToString::to_string), Some("bad.csv, row 1".to_owned()));
}

#[test]
fn json_lines_with_nested_and_bad_records() {
    let folder = Folder::new();
    let lines = "{\"a\":1,\"t\":\"2013-01-01T10:00:00Z\",\"l\":[{\"z\":\"2013-01-01 00:00:00\"}],\"unknown\":{}}\n\n{\"a\":\
                 \"x\"}\n{\"a\":3}\r\n[1]\nnot json\n{\"a\":4}{\"a\":5}\n{\"a\":6}\n{\"a\":7}{\n\"a\":8}";
    folder.write("x.json", lines);
    let zone = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let element = DataType::Struct(vec![Field::new("z", zone.clone(), true)].into());
    let columns = [("a", INT), ("t", zone), ("l", DataType::List(Arc::new(Field::new("item", element, true))))];
    let case = case(&columns, &[("path", "x.json"), ("format", "json")]);
    let (rows, dead) = case.read(&folder);
    assert_eq!(ints(&rows, 0), [Some(1), Some(3), Some(6)]);
    assert_eq!(dead.iter().map(|d| d.offset).collect::<Vec<_>>(), [1, 3, 4, 5, 7, 8]);
    let rows = rows.expect("rows");
    let times = rows.column(1).as_primitive::<arrow::datatypes::TimestampMillisecondType>();
    assert_eq!(times.value(0), 1_357_034_400_000);
    assert!(times.is_null(1));
    let count = case.with(|c| c.request.projection = vec![]);
    assert_eq!(count.read(&folder).0.map(|r| r.num_rows()), Some(4), "an empty object list still counts rows");
}

#[test]
fn ranges_hold_each_record_exactly_once() {
    let folder = Folder::new();
    for (name, end) in [("lf", "\n"), ("crlf", "\r\n")] {
        let mut csv = format!("n,text{end}");
        let mut json = String::new();
        for n in 0..40 {
            csv.push_str(&format!("{n},{}{end}", "x".repeat(n % 7)));
            json.push_str(&format!("{{\"n\":{n}}}{end}"));
            if n % 5 == 0 {
                csv.push_str(end);
            }
        }
        csv.truncate(csv.len() - end.len());
        folder.write(&format!("{name}.csv"), csv).write(&format!("{name}.json"), json);
    }
    let expected: Vec<Option<i32>> = (0..40).map(Some).collect();
    for file in ["lf.csv", "crlf.csv", "lf.json", "crlf.json"] {
        let format = file.rsplit('.').next().unwrap_or_default();
        for bytes in (1..10).chain([17, 27, 64, 100, 1000]) {
            let options = [("path", file), ("format", format)];
            let case = case(&[("n", INT)], &options).with(|c| {
                c.split_bytes = Some(bytes);
                if format == "csv" {
                    c.table.options.insert("csv.multiline".to_owned(), "false".to_owned());
                    c.table.physical =
                        Arc::new(Schema::new(vec![Field::new("n", INT, true), Field::new("text", STRING, true)]));
                }
                c.request.metadata = vec![("o".to_owned(), MetadataKind::Offset)];
            });
            let source = case.source(&folder);
            let splits = source.discover().expect("splits");
            assert!(bytes >= 1000 || splits.len() > 1, "{file} is cut at {bytes}");
            let batches: Vec<_> = splits.iter().flat_map(|s| drain(source.as_ref(), s, &s.start).batches).collect();
            let rows = rows_of(&batches);
            assert_eq!(ints(&rows, 0), expected, "{file} at {bytes}");
            assert_eq!(longs(&rows, 1), (0..40).collect::<Vec<i64>>(), "{file} at {bytes}");
            if bytes == 27 {
                prove(&source);
            }
        }
    }
}

#[test]
fn compressed_files_resume_and_a_truncated_one_ends_in_an_error() {
    let folder = Folder::new();
    let text: String = (0..5000).map(|n| format!("{n},text {}\n", n * 7919 % 1013)).collect();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).expect("compresses");
    let gzip = gzip.finish().expect("compresses");
    folder.write("a.csv.gz", &gzip).write("cut.csv.gz", &gzip[..gzip.len() / 2]);
    folder.write("a.csv.zst", zstd::encode_all(text.as_bytes(), 1).expect("compresses"));
    for path in ["a.csv.gz", "a.csv.zst"] {
        let case = case(&[("a", INT), ("b", STRING)], &[("path", path), ("format", "csv")]);
        let case = case.with(|c| c.request.batch_rows = 997);
        assert_eq!(ints(&case.read(&folder).0, 0), (0..5000).map(Some).collect::<Vec<_>>());
    }
    let cut = case(&[("a", INT), ("b", STRING)], &[("path", "cut.csv.gz"), ("format", "csv")]);
    let source = cut.source(&folder);
    let split = source.discover().expect("one split").remove(0);
    let mut reader = source.open(&split, &split.start).expect("opens");
    let mut rows = 0;
    let error = loop {
        match reader.next(&StopFlag::default()) {
            Ok(ReadOutcome::Batch(batch)) => rows += batch.rows.num_rows(),
            Ok(_) => panic!("a truncated file does not end well"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), Code::CorruptInput);
    assert!(rows > 1000, "the rows before the damage are delivered: {rows}");
}

#[test]
fn folders_patterns_and_partitions() {
    let folder = Folder::new();
    folder.write("d/day=2013-01-02/b.csv", "2\n").write("d/day=2013-01-01/a.csv", "1\n");
    folder.write("d/_commits/1.json", "{}").write("d/.staged/x.csv", "9\n");
    let mut case = case(&[("a", INT), ("day", DataType::Date32)], &[("path", "d"), ("format", "csv")]);
    case.table.partitioned_by = vec!["day".to_owned()];
    case.request.metadata = vec![("o".to_owned(), MetadataKind::Origin)];
    let (rows, _) = case.read(&folder);
    assert_eq!(ints(&rows, 0), [Some(1), Some(2)]);
    let rows = rows.expect("rows");
    assert_eq!(rows.column(1).as_primitive::<arrow::datatypes::Date32Type>().values(), &[15_706, 15_707]);
    assert_eq!(rows.column(2).as_string::<i32>().value(0), "d/day=2013-01-01/a.csv");
    for (pattern, count) in [("d/*/*.csv", 2), ("d/**/a.csv", 1), ("**/*.csv", 2), ("d/day=2013-01-0[2-9]", 1)] {
        let case = case_with_path(&case, pattern);
        assert_eq!(case.read(&folder).0.map_or(0, |r| r.num_rows()), count, "{pattern}");
    }
    let url = format!("file://{}", folder.0.join("d").display());
    assert_eq!(case_with_path(&case, &url).read(&folder).0.map_or(0, |r| r.num_rows()), 2);
}

fn case_with_path(case: &Case, path: &str) -> Case {
    let mut table = case.table.clone();
    table.options.insert("path".to_owned(), path.to_owned());
    Case { table, request: case.request.clone(), split_bytes: case.split_bytes }
}

#[test]
fn each_failure_has_its_code() {
    let folder = Folder::new();
    folder.write("a.csv", "carrier,nam\nAA,American\n").write("b.csv", "x,y\n1,2\n");
    let code = |columns: &[(&str, DataType)], options: &[(&str, &str)]| case(columns, options).error(&folder);
    let error = code(&[("carrier", STRING), ("name", STRING)], &[("path", "a.csv"), ("format", "csv")]);
    assert_eq!(error.code(), Code::HeaderMismatch);
    assert!(
        error.hint_text().is_some_and(|h| h.contains("`nam` instead of `name`")),
        "{error} {:?}",
        error.hint_text()
    );
    let error = code(&[("a", INT), ("b", INT)], &[("path", "b.csv"), ("format", "csv")]);
    assert_eq!(error.code(), Code::HeaderMismatch, "a header of other names is no data");
    folder.write("twice.csv", "a,b,b\n1,2,3\n").write("case.csv", "a,B,b\n1,2,3\n");
    let error = code(&[("a", INT), ("b", INT)], &[("path", "twice.csv"), ("format", "csv")]);
    assert_eq!(error.code(), Code::HeaderMismatch);
    assert!(error.message().contains("has column `b` twice"), "{error}");
    let (rows, _) = case(&[("a", INT), ("b", INT)], &[("path", "case.csv"), ("format", "csv")]).read(&folder);
    assert_eq!(ints(&rows, 1), [Some(3)], "the exact name wins");
    assert_eq!(code(&[("a", INT)], &[("path", "none.csv"), ("format", "csv")]).code(), Code::PathNotFound);
    assert_eq!(code(&[("a", INT)], &[("path", "*.tsv"), ("format", "csv")]).code(), Code::PathNotFound);
    assert_eq!(code(&[("a", INT)], &[("path", "a.csv"), ("format", "cvs")]).code(), Code::BadRole);
    assert_eq!(code(&[("a", INT)], &[("path", "a.csv"), ("format", "parquet")]).code(), Code::CorruptInput);
    assert_eq!(code(&[("a", INT)], &[("path", "a.csv"), ("format", "arrow")]).code(), Code::CorruptInput);
}

#[test]
fn an_over_long_record_is_cut_and_the_rest_is_read() {
    let folder = Folder::new();
    let mut text = b"1\n".to_vec();
    text.resize(2 + qanat_proto::limits::RECORD_BYTES_MAX + (3 << 20), b'7');
    text.extend_from_slice(b"\n3\n");
    folder.write("long.csv", &text);
    let case = case(&[("a", INT)], &[("path", "long.csv"), ("format", "csv"), ("csv.header", "false")]);
    let source = case.source(&folder);
    let split = source.discover().expect("one split").remove(0);
    let drained = drain(source.as_ref(), &split, &split.start);
    assert_eq!(ints(&rows_of(&drained.batches), 0), [Some(1), Some(3)]);
    let dead = dead_letters_of(&drained.batches);
    assert_eq!(dead.iter().map(|d| (d.offset, d.raw.len())).collect::<Vec<_>>(), [(1, 1 << 20)]);
    let again = drain(source.as_ref(), &split, &drained.batches[1].position);
    assert_eq!(ints(&rows_of(&again.batches), 0), [Some(3)]);
}

/// A first line without an end is looked for a header, but not for ever and not again with every read.
#[test]
fn an_over_long_first_line_is_no_header() {
    let folder = Folder::new();
    let mut text = vec![b'7'; qanat_proto::limits::RECORD_BYTES_MAX + (3 << 20)];
    text.extend_from_slice(b"\n3\n");
    folder.write("long.csv", &text);
    let options = [("path", "long.csv"), ("format", "csv")];
    let source = case(&[("a", INT)], &options).source(&folder);
    let split = source.discover().expect("one split").remove(0);
    let drained = drain(source.as_ref(), &split, &split.start);
    assert_eq!(ints(&rows_of(&drained.batches), 0), [Some(3)]);
    assert_eq!(dead_letters_of(&drained.batches).len(), 1);
    let error = case(&[("a", INT)], &[("csv.header", "true"), options[0], options[1]]).error(&folder);
    assert_eq!(error.code(), Code::RecordTooLarge);
}

#[test]
fn json_that_nests_too_deep_is_a_bad_record() {
    let folder = Folder::new();
    let deep = |levels: usize| format!("{{\"a\":{}{}}}\n", "[".repeat(levels), "]".repeat(levels));
    let mut text = "{\"a\":1}\n".to_owned();
    text.push_str(&deep(100_000));
    text.push_str(&format!("{{\"a\":2,\"x\":\"{}\"}}\n", "[".repeat(5_000)));
    text.push_str(&deep(900));
    text.push_str("{\"a\":3}\n");
    folder.write("x.json", text);
    let (rows, dead) = case(&[("a", INT)], &[("path", "x.json"), ("format", "json")]).read(&folder);
    assert_eq!(ints(&rows, 0), [Some(1), Some(2), Some(3)]);
    assert_eq!(dead.iter().map(|d| d.offset).collect::<Vec<_>>(), [1, 3]);
    assert!(dead[0].reason.contains("nested deeper"), "{}", dead[0].reason);
}

#[test]
fn decimals_round_half_up_in_both_text_formats() {
    let folder = Folder::new();
    folder.write("x.csv", "d\n1.234\n1.235\n-1.235\n999.995\n7\n");
    folder.write("x.json", "{\"d\":1.234}\n{\"d\":\"1.235\"}\n{\"d\":-1.235}\n{\"d\":999.995}\n{\"d\":7}\n");
    for format in ["csv", "json"] {
        let path = format!("x.{format}");
        let columns = [("d", DataType::Decimal128(5, 2))];
        let read = case(&columns, &[("path", &path), ("format", format)]);
        let (rows, dead) = read.read(&folder);
        let values = rows.expect("rows").column(0).as_primitive::<arrow::datatypes::Decimal128Type>().clone();
        assert_eq!(values.values(), &[123, 124, -124, 700], "{format}");
        assert_eq!(dead.iter().map(|d| d.offset).collect::<Vec<_>>(), [3], "{format}");
        let policy = ("dead-letter.policy", "null");
        let (rows, dead) = case(&columns, &[("path", &path), ("format", format), policy]).read(&folder);
        assert_eq!((rows.map(|r| r.column(0).null_count()), dead.len()), (Some(1), 0), "{format}");
    }
}

#[test]
fn a_followed_folder_gives_new_files_and_new_lines_but_never_half_a_line() {
    let folder = Folder::new();
    folder.write("in/a.csv", "1\n2");
    let options = [("path", "in"), ("format", "csv"), ("csv.header", "false"), ("source.monitor-interval", "1 ms")];
    let case = case(&[("a", INT)], &options);
    let source = case.source(&folder);
    assert!(source.is_growing());
    let splits = source.discover().expect("splits");
    let mut reader = source.open(&splits[0], &splits[0].start).expect("opens");
    let poll = |reader: &mut dyn crate::contract::SplitReader| {
        // The interval is on the real clock: ask until it has passed.
        for _ in 0..1_000_000 {
            if let ReadOutcome::Batch(batch) = reader.next(&StopFlag::default()).expect("reads") {
                return ints(&Some(batch.rows), 0);
            }
        }
        Vec::new()
    };
    assert_eq!(poll(reader.as_mut()), [Some(1)]);
    assert!(matches!(reader.next(&StopFlag::default()), Ok(ReadOutcome::Pending)));
    folder.append("in/a.csv", "2\n3\n4");
    assert_eq!(poll(reader.as_mut()), [Some(22), Some(3)]);
    folder.write("in/b.csv", "9\n");
    let mut found = Vec::new();
    for _ in 0..1_000_000 {
        found = source.discover().expect("splits");
        if found.len() == 2 {
            break;
        }
    }
    assert_eq!(found[0], splits[0]);
    assert_eq!(found[1].id.0, "b.csv");
    folder.write("in/a.csv", "1\n");
    let position = serde_json::json!({"byte": 5, "row": 2});
    assert_eq!(source.open(&splits[0], &position).err().map(|e| e.code()), Some(Code::SourceChanged));
}

/// Cut and filled anew between two looks, beyond where it was read to.
#[test]
fn flights_of_new_york_decode_with_their_nulls() {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let columns = [
        ("dep_time", INT),
        ("dep_delay", DataType::Int64),
        ("carrier", STRING),
        ("tailnum", STRING),
        ("air_time", DataType::Float64),
        ("time_hour", DataType::Timestamp(TimeUnit::Millisecond, None)),
    ];
    let options = [("path", "flights.csv.gz"), ("format", "csv"), ("csv.null-literal", "NA")];
    let case = case(&columns, &options).with(|c| c.request.batch_rows = 128);
    let source = case.try_source(&base).expect("good options");
    prove(&source);
    let split = source.discover().expect("one split").remove(0);
    let batches = drain(source.as_ref(), &split, &split.start).batches;
    assert!(dead_letters_of(&batches).is_empty());
    let rows = rows_of(&batches).expect("rows");
    assert_eq!(rows.num_rows(), 800);
    // An independent count: lines with NA in the column.
    let mut text = String::new();
    let file = std::fs::File::open(base.join("flights.csv.gz")).expect("the sample");
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(file), &mut text).expect("text");
    let nulls = |column: usize| text.lines().skip(1).filter(|l| l.split(',').nth(column) == Some("NA")).count();
    assert_eq!(rows.column(0).null_count(), nulls(3));
    assert_eq!(rows.column(4).null_count(), nulls(14));
    assert!(nulls(14) > 0);
    let times = rows.column(5).as_primitive::<arrow::datatypes::TimestampMillisecondType>();
    assert_eq!(times.value(0), 1_357_034_400_000);
}

/// 1000 rows in row groups (or batches) of 90.
fn columnar_rows() -> RecordBatch {
    let small = arrow::array::Int16Array::from_iter((0..1000).map(|n| (n % 7 != 0).then_some(n)));
    let text = arrow::array::StringArray::from_iter_values((0..1000).map(|n| format!("text {n}")));
    let time = arrow::array::TimestampMicrosecondArray::from_iter_values((0..1000).map(|n| n * 1_000_500));
    RecordBatch::try_from_iter([
        ("time", Arc::new(time.with_timezone("UTC")) as arrow::array::ArrayRef),
        ("n", Arc::new(small)),
        ("text", Arc::new(text)),
    ])
    .expect("columns of one length")
}

fn parquet_bytes(rows: &RecordBatch) -> Vec<u8> {
    let properties =
        parquet::file::properties::WriterProperties::builder().set_max_row_group_row_count(Some(90)).build();
    let mut bytes = Vec::new();
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(&mut bytes, rows.schema(), Some(properties)).expect("a writer");
    writer.write(rows).expect("writes");
    writer.close().expect("closes");
    bytes
}

#[test]
fn parquet_and_arrow_by_name_and_type_from_any_position() {
    let folder = Folder::new();
    let rows = columnar_rows();
    folder.write("x.parquet", parquet_bytes(&rows));
    let slices: Vec<RecordBatch> = (0..12).map(|i| rows.slice(i * 90, 90.min(1000 - i * 90))).collect();
    let mut file = arrow::ipc::writer::FileWriter::try_new(Vec::new(), &rows.schema()).expect("a writer");
    let mut stream = arrow::ipc::writer::StreamWriter::try_new(Vec::new(), &rows.schema()).expect("a writer");
    for slice in &slices {
        file.write(slice).expect("writes");
        stream.write(slice).expect("writes");
    }
    folder.write("x.arrow", file.into_inner().expect("ends"));
    let stream = stream.into_inner().expect("ends");
    folder
        .write("x.arrows", &stream)
        .write("x.arrows.zst", zstd::encode_all(stream.as_slice(), 1).expect("compresses"));
    let columns =
        [("text", STRING), ("N", INT), ("time", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())))];
    for (path, format) in
        [("x.parquet", "parquet"), ("x.arrow", "arrow"), ("x.arrows", "arrow"), ("x.arrows.zst", "arrow")]
    {
        let case = case(&columns, &[("path", path), ("format", format)]).with(|c| {
            c.request.batch_rows = 64;
            c.request.metadata = vec![("o".to_owned(), MetadataKind::Offset)];
            c.split_bytes = Some(2_000);
        });
        let splits = case.source(&folder).discover().expect("splits").len();
        assert_eq!(splits > 1, format == "parquet", "{path} has {splits} splits");
        let (read, dead) = case.read(&folder);
        assert!(dead.is_empty());
        let expected: Vec<Option<i32>> = (0..1000).map(|n| (n % 7 != 0).then_some(n)).collect();
        assert_eq!(ints(&read, 1), expected, "{path}");
        assert_eq!(longs(&read, 3), (0..1000).collect::<Vec<i64>>(), "{path}");
        let read = read.expect("rows");
        let times = read.column(2).as_primitive::<arrow::datatypes::TimestampMillisecondType>();
        assert_eq!(times.value(999), 999 * 1_000_500 / 1000);
        let none = case.with(|c| {
            c.request.projection = vec![];
            c.request.metadata = vec![];
        });
        assert_eq!(none.read(&folder).0.map(|r| r.num_rows()), Some(1000), "{path}");
    }
    let narrow = case(&[("n", DataType::Int8)], &[("path", "x.parquet"), ("format", "parquet")]);
    let (read, dead) = narrow.read(&folder);
    assert_eq!((read.map(|r| r.num_rows()), dead.len()), (Some(252), 748), "values that do not fit are dead letters");
    let wrong = case(&[("text", INT)], &[("path", "x.arrow"), ("format", "arrow")]);
    assert_eq!(wrong.error(&folder).code(), Code::HeaderMismatch);
    let n = rows.schema().field(1).clone();
    let twice = arrow::datatypes::Schema::new(vec![n.clone(), n]);
    let twice = RecordBatch::try_new(Arc::new(twice), vec![rows.column(1).clone(), rows.column(1).clone()]);
    folder.write("twice.parquet", parquet_bytes(&twice.expect("columns of one length")));
    let error = case(&[("n", INT)], &[("path", "twice.parquet"), ("format", "parquet")]).error(&folder);
    assert!(error.message().contains("has column `n` twice"), "{error}");
}

#[test]
fn values_that_do_not_fit_are_found_at_any_depth_and_times_are_cut_downwards() {
    use arrow::array::{ListArray, TimestampNanosecondArray};
    let folder = Folder::new();
    let numbers = vec![Some(vec![Some(1), Some(1 << 40)]), Some(vec![Some(2)]), None, Some(vec![None, Some(-1 << 40)])];
    let lists = ListArray::from_iter_primitive::<arrow::datatypes::Int64Type, _, _>(numbers);
    let times = TimestampNanosecondArray::from(vec![-1, -1, -1_500_000_001, 1_999_999]);
    let rows = RecordBatch::try_from_iter([
        ("l", Arc::new(lists) as arrow::array::ArrayRef),
        ("t", Arc::new(times) as arrow::array::ArrayRef),
    ]);
    folder.write("x.parquet", parquet_bytes(&rows.expect("columns of one length")));
    let list = DataType::List(Arc::new(arrow::datatypes::Field::new_list_field(INT, true)));
    let columns = [("l", list), ("t", DataType::Timestamp(TimeUnit::Millisecond, None))];
    let options = [("path", "x.parquet"), ("format", "parquet")];
    let (read, dead) = case(&columns, &options).read(&folder);
    assert_eq!(dead.iter().map(|letter| letter.offset).collect::<Vec<_>>(), [0, 3]);
    assert!(String::from_utf8_lossy(&dead[0].raw).contains("[1,1099511627776]"), "{dead:?}");
    let read = read.expect("rows");
    assert_eq!(read.column(0).as_list::<i32>().values().len(), 1);
    let times = read.column(1).as_primitive::<arrow::datatypes::TimestampMillisecondType>();
    assert_eq!(times.values(), &[-1, -1_501]);
    let lenient = [options[0], options[1], ("dead-letter.policy", "null")];
    let (read, dead) = case(&columns, &lenient).read(&folder);
    assert_eq!((read.map(|rows| rows.column(0).null_count()), dead.len()), (Some(3), 0));
}

#[test]
fn what_no_row_holds_fails_no_row() {
    use arrow::array::{DictionaryArray, Int64Array, StructArray};
    use arrow::datatypes::{Field, Int32Type};
    let folder = Folder::new();
    let keys = arrow::array::Int32Array::from(vec![0, 1, 0, 2]);
    let words = DictionaryArray::<Int32Type>::new(keys, Arc::new(Int64Array::from(vec![1, 2, 1 << 40, 1 << 41])));
    let inner: arrow::array::ArrayRef = Arc::new(Int64Array::from(vec![1, 1 << 40, 3, 4]));
    let field = Arc::new(Field::new("a", DataType::Int64, true));
    let structs = StructArray::new(vec![field].into(), vec![inner], Some(vec![true, false, true, true].into()));
    let rows = RecordBatch::try_from_iter([
        ("d", Arc::new(words) as arrow::array::ArrayRef),
        ("r", Arc::new(structs) as arrow::array::ArrayRef),
    ]);
    let rows = rows.expect("columns of one length");
    let mut file = arrow::ipc::writer::FileWriter::try_new(Vec::new(), &rows.schema()).expect("a writer");
    file.write(&rows).expect("written");
    folder.write("x.arrow", file.into_inner().expect("whole"));
    let row = DataType::Struct(vec![Field::new("a", INT, true)].into());
    let (read, dead) = case(&[("d", INT), ("r", row)], &[("path", "x.arrow"), ("format", "arrow")]).read(&folder);
    assert_eq!(dead.iter().map(|letter| letter.offset).collect::<Vec<_>>(), [3]);
    assert_eq!(ints(&read, 0), [Some(1), Some(2), Some(1)]);
    assert_eq!(read.map(|read| read.column(1).null_count()), Some(1));
}

#[test]
fn row_groups_that_no_row_passes_are_counted_and_not_decoded() {
    let folder = Folder::new();
    folder.write("x.parquet", parquet_bytes(&columnar_rows()));
    let columns = [
        ("text", STRING),
        ("n", DataType::Int32),
        ("time", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))),
    ];
    let compare = |comparison, value: i32| Predicate::Compare {
        column: 1,
        comparison,
        value: Arc::new(arrow::array::Int32Array::from(vec![value])),
    };
    // The eleven groups of 90 rows begin at 0, 90, …; every seventh value is NULL.
    let between = Predicate::And(vec![compare(Comparison::GreaterOrEqual, 200), compare(Comparison::Less, 360)]);
    for (predicate, kept) in [
        (between.clone(), vec![(180, 360)]),
        (Predicate::Not(Box::new(between)), vec![(0, 270), (360, 1000)]),
        (compare(Comparison::Equal, 905), vec![(900, 990)]),
        (compare(Comparison::Equal, 5000), vec![]),
        (Predicate::IsNull { column: 1 }, vec![(0, 1000)]),
    ] {
        let is_kept = |row: &i64| kept.iter().any(|(from, to)| (*from..*to).contains(row));
        for watermark in [None, Some(vec![2])] {
            let case = case(&columns, &[("path", "x.parquet"), ("format", "parquet")]).with(|c| {
                c.request.batch_rows = 64;
                c.request.metadata = vec![("o".to_owned(), MetadataKind::Offset)];
                c.request.filter = Some(PushedFilter { predicate: predicate.clone(), watermark: watermark.clone() });
            });
            let source = case.source(&folder);
            prove(&source);
            let split = source.discover().expect("splits").remove(0);
            let drained = drain(source.as_ref(), &split, &split.start);
            let records: u64 = drained.batches.iter().map(|batch| batch.records).sum();
            assert_eq!(records, 1000, "{predicate:?}");
            let offsets: Vec<i64> = longs(&rows_of(&drained.batches), 3);
            assert_eq!(offsets, (0..1000).filter(is_kept).collect::<Vec<_>>(), "{predicate:?}");
            let hidden: Vec<&RecordBatch> = drained.batches.iter().filter_map(|batch| batch.hidden.as_ref()).collect();
            let times: Vec<i64> = hidden
                .iter()
                .flat_map(|rows| {
                    rows.column(2).as_primitive::<arrow::datatypes::TimestampMillisecondType>().values().to_vec()
                })
                .collect();
            let skipped = (0..1000).filter(|row| !is_kept(row)).map(|row| row * 1_000_500 / 1000);
            let expected = if watermark.is_some() { skipped.collect() } else { Vec::new() };
            assert_eq!(times, expected, "{predicate:?}");
            assert!(hidden.iter().all(|rows| rows.column(0).null_count() == rows.num_rows()));
        }
    }
    // A value that does not fit is a dead letter, whether the filter wants its row or not.
    let narrow = case(&[("n", DataType::Int8)], &[("path", "x.parquet"), ("format", "parquet")]).with(|c| {
        let value = Arc::new(arrow::array::Int8Array::from(vec![100]));
        let predicate = Predicate::Compare { column: 0, comparison: Comparison::Less, value };
        c.request.filter = Some(PushedFilter { predicate, watermark: None });
    });
    assert_eq!(narrow.read(&folder).1.len(), 748);
}

mod random_json {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// A good line with what it holds, or a bad one.
    fn line() -> impl Strategy<Value = (String, Option<(Option<i32>, Option<String>)>)> {
        let good =
            (proptest::option::of(any::<i32>()), proptest::option::of("[a\"\\\\\n\t é日{}]{0,8}"), any::<bool>());
        let good = good.prop_map(|(a, b, is_short)| {
            let mut object = json!({"a": a, "b": b, "other": [1, {"a": 2}]});
            if let (true, None, Some(map)) = (is_short, &b, object.as_object_mut()) {
                map.remove("b");
            }
            (object.to_string(), Some((a, b)))
        });
        let bad = prop_oneof![
            Just("{\"a\":\"x\"}"),
            Just("{\"a\":1"),
            Just("nonsense"),
            Just("[]"),
            Just("{}{}"),
            Just("{}{"),
            Just("}"),
            // In a member that nobody reads.
            Just("{\"a\":1,\"z\":\"\\ud800\"}"),
            Just("{\"a\":1,\"z\":08}")
        ];
        prop_oneof![6 => good, 1 => bad.prop_map(|b| (b.to_owned(), None))]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn json_lines_agree_with_a_row_wise_reader(
            lines in proptest::collection::vec(line(), 1..40),
            is_crlf in any::<bool>(),
            batch_rows in 1..16_usize,
        ) {
            let folder = Folder::new();
            let end = if is_crlf { "\r\n" } else { "\n" };
            let text: String = lines.iter().map(|(line, _)| format!("{line}{end}")).collect();
            folder.write("x.json", text);
            let case = case(&[("a", INT), ("b", STRING)], &[("path", "x.json"), ("format", "json")]);
            let case = case.with(|c| c.request.batch_rows = batch_rows);
            let source = case.source(&folder);
            let split = source.discover().expect("one").remove(0);
            let batches = drain(source.as_ref(), &split, &split.start).batches;
            let rows = rows_of(&batches);
            let good: Vec<_> = lines.iter().filter_map(|(_, good)| good.clone()).collect();
            prop_assert_eq!(ints(&rows, 0), good.iter().map(|(a, _)| *a).collect::<Vec<_>>());
            prop_assert_eq!(texts(&rows, 1), good.into_iter().map(|(_, b)| b).collect::<Vec<_>>());
            let dead: Vec<Value> = dead_letters_of(&batches).iter().map(|d| json!([d.offset, d.raw])).collect();
            let bad = lines.iter().enumerate().filter(|(_, (_, good))| good.is_none());
            let bad: Vec<Value> = bad.map(|(row, (line, _))| json!([row, line.as_bytes()])).collect();
            prop_assert_eq!(dead, bad);
        }
    }
}

#[cfg(unix)]
#[test]
fn a_link_to_a_folder_above_is_no_way_down() {
    let folder = Folder::new();
    folder.write("in/below/a.csv", "1\n");
    for link in ["in/self", "in/again", "in/below/up"] {
        std::os::unix::fs::symlink(folder.0.join("in"), folder.0.join(link)).expect("a link");
    }
    std::os::unix::fs::symlink(folder.0.join("in/below"), folder.0.join("in/other")).expect("a link");
    for (path, rows) in [("in", 2), ("in/**/*.csv", 2), ("in/self/below", 1)] {
        let case = case(&[("a", INT)], &[("path", path), ("format", "csv")]);
        assert_eq!(case.read(&folder).0.map(|read| read.num_rows()), Some(rows), "{path}");
    }
}
