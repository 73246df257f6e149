//! Random rows of every type, through every format and back: what was hashed before is hashed after.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ::arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array,
    Int64Array, LargeStringArray, ListArray, RecordBatch, StringArray, StringViewArray, StructArray,
    Time64MicrosecondArray, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
    TimestampSecondArray, UInt64Array,
};
use ::arrow::buffer::OffsetBuffer;
use ::arrow::datatypes::{DataType, Field, Fields};
use proptest::prelude::*;
use qanat_executor_core::receipt::RowHasher;
use qanat_proto::connector::TableDescriptor;
use qanat_proto::control::CommitPermit;
use qanat_proto::error::Code;
use qanat_proto::ids::{Epoch, Generation, JobId, OperatorId, SubtaskId, Token};
use qanat_proto::manifest::SinkChannel;
use qanat_proto::receipt::RowSum;
use qanat_storage::env::Env;
use qanat_storage::env::sim::SimEnv;

use crate::contract::{CommitScope, Sink};
use crate::filesystem::audit::audit;
use crate::filesystem::committed::committed_files;
use crate::filesystem::sink::FileSink;

/// One row's values; columns are made from a list of these.
#[derive(Clone, Debug)]
struct Cells {
    small: Option<i8>,
    large: Option<i64>,
    unsigned: Option<u64>,
    single: Option<f32>,
    double: Option<f64>,
    text: Option<String>,
    flag: Option<bool>,
    day: Option<i32>,
    time: Option<i64>,
    decimal: Option<i128>,
    binary: Option<Vec<u8>>,
    items: Option<Vec<Option<i64>>>,
}

fn cells() -> impl Strategy<Value = Cells> {
    let text = prop_oneof![
        Just(String::new()),
        Just("NA".to_owned()),
        Just("null".to_owned()),
        "[a-c,;\"'\\\\ \t\r\n|é]{0,8}",
        ".{0,12}"
    ];
    let double = prop_oneof![any::<f64>(), Just(f64::NAN), Just(f64::INFINITY), Just(-0.0), Just(0.1)];
    let numbers = (any::<Option<i8>>(), any::<Option<i64>>(), any::<Option<u64>>(), any::<Option<f32>>());
    let others = (proptest::option::of(double), proptest::option::of(text), any::<Option<bool>>());
    let times = (
        proptest::option::of(-719_528_i32..2_932_897),
        proptest::option::of(-60_000_000_000_i64..250_000_000_000),
        proptest::option::of(-99_999_999_999_999_i128..99_999_999_999_999),
    );
    let rest = (
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..6)),
        proptest::option::of(proptest::collection::vec(any::<Option<i64>>(), 0..4)),
    );
    (numbers, others, times, rest).prop_map(
        |((small, large, unsigned, single), (double, text, flag), (day, time, decimal), (binary, items))| Cells {
            small,
            large,
            unsigned,
            single,
            double,
            text,
            flag,
            day,
            time,
            decimal,
            binary,
            items,
        },
    )
}

fn flat(rows: &[Cells]) -> Vec<(&'static str, ArrayRef)> {
    fn column<A: FromIterator<T> + ::arrow::array::Array + 'static, T>(
        rows: &[Cells],
        get: impl Fn(&Cells) -> T,
    ) -> ArrayRef {
        Arc::new(rows.iter().map(get).collect::<A>())
    }
    let time = |factor: i64| move |row: &Cells| row.time.map(|t| t * factor);
    let decimal = rows.iter().map(|r| r.decimal).collect::<Decimal128Array>();
    vec![
        ("small", column::<Int8Array, _>(rows, |r| r.small)),
        ("large", column::<Int64Array, _>(rows, |r| r.large)),
        ("unsigned", column::<UInt64Array, _>(rows, |r| r.unsigned)),
        ("single", column::<Float32Array, _>(rows, |r| r.single)),
        ("double", column::<Float64Array, _>(rows, |r| r.double)),
        ("text", column::<StringArray, _>(rows, |r| r.text.clone())),
        ("large text", column::<LargeStringArray, _>(rows, |r| r.text.clone())),
        ("view", column::<StringViewArray, _>(rows, |r| r.text.clone())),
        ("bytes", column::<BinaryArray, _>(rows, |r| r.binary.clone())),
        ("flag", column::<BooleanArray, _>(rows, |r| r.flag)),
        ("day", column::<Date32Array, _>(rows, |r| r.day)),
        ("seconds", column::<TimestampSecondArray, _>(rows, time(1))),
        ("millis", column::<TimestampMillisecondArray, _>(rows, |r| r.time.map(|t| t * 1000 + 7))),
        ("micros", column::<TimestampMicrosecondArray, _>(rows, |r| r.time.map(|t| t * 1_000_000 + 123_456))),
        // Nanoseconds reach from 1677 to 2262.
        ("nanos", column::<TimestampNanosecondArray, _>(rows, |r| r.time.map(|t| t / 100 * 1_000_000_000 + 5))),
        (
            "zoned",
            Arc::new(rows.iter().map(time(1000)).collect::<TimestampMillisecondArray>().with_timezone("UTC"))
                as ArrayRef,
        ),
        ("clock", column::<Time64MicrosecondArray, _>(rows, |r| r.time.map(|t| t.rem_euclid(86_400_000_000)))),
        ("decimal", Arc::new(decimal.with_precision_and_scale(20, 4).expect("a precision")) as ArrayRef),
    ]
}

fn nested(rows: &[Cells]) -> Vec<(&'static str, ArrayRef)> {
    let items: ListArray =
        ListArray::from_iter_primitive::<::arrow::datatypes::Int64Type, _, _>(rows.iter().map(|r| r.items.clone()));
    let fields: Fields = vec![Field::new("a", DataType::Utf8, true), Field::new("b", DataType::Float64, true)].into();
    let texts: StringArray = rows.iter().map(|r| r.text.clone()).collect();
    let doubles: Float64Array = rows.iter().map(|r| r.double).collect();
    let structs = StructArray::new(fields, vec![Arc::new(texts), Arc::new(doubles)], None);
    let item = Arc::new(Field::new("item", structs.data_type().clone(), true));
    let lengths = OffsetBuffer::from_lengths(std::iter::repeat_n(1, rows.len()));
    let list_of_structs = ListArray::new(item, lengths, Arc::new(structs.clone()), None);
    let binary: BinaryArray = rows.iter().map(|r| r.binary.clone()).collect();
    vec![
        ("items", Arc::new(items)),
        ("object", Arc::new(structs)),
        ("objects", Arc::new(list_of_structs)),
        ("binary", Arc::new(binary)),
    ]
}

use ::arrow::array::Array as _;

fn batch(columns: Vec<(&'static str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
        .expect("a batch")
}

fn table(options: &[(&str, &str)], rows: &RecordBatch) -> TableDescriptor {
    let base = [("connector", "filesystem"), ("path", "/out")];
    let all: BTreeMap<String, String> =
        base.iter().chain(options).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    TableDescriptor {
        name: "out".to_owned(),
        connector: "filesystem".to_owned(),
        options: all,
        physical: rows.schema(),
        metadata: Vec::new(),
        primary_key: Vec::new(),
        partitioned_by: Vec::new(),
    }
}

fn round_trip(options: &[(&str, &str)], rows: &RecordBatch) {
    let SimEnv { env, disk, .. } = Env::sim(1);
    let table = table(options, rows);
    let sink = FileSink::open(env, Path::new("/"), &table, false).expect("a sink");
    let (operator, job) = (OperatorId(1), JobId(1));
    let token = Token { job, generation: Generation(1) };
    let mut writer = sink.writer(SubtaskId { operator, index: 0 }, token).expect("a writer");
    writer.write(Epoch(1), rows).expect("writes");
    let handles = writer.prepare(Epoch(1)).expect("prepares");
    let permit = CommitPermit { token, epoch: Epoch(1), manifest_key: "m".to_owned(), handles: handles.clone() };
    sink.commit(CommitScope { operator, channel: SinkChannel::Table }, &permit, &handles).expect("commits");
    let found = audit(&disk, Path::new("/out"), job).expect("an audit");
    assert!(found.findings.is_empty(), "{options:?}: {:#?}", found.findings);
    let mut sum = RowSum::default();
    committed_files(&disk, Path::new("/out")).expect("files").iter().for_each(|(_, file)| sum.add(file.sum()));
    assert_eq!(sum, RowHasher::default().sum(rows).expect("a sum"), "{options:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn flat_rows_come_back(rows in proptest::collection::vec(cells(), 1..8)) {
        let rows = batch(flat(&rows));
        for options in [
            &[("format", "csv")][..],
            &[("format", "csv"), ("csv.null-literal", "NA"), ("csv.field-delimiter", ";")][..],
            &[("format", "csv"), ("csv.quote-character", "'"), ("csv.escape-character", "\\"), ("csv.header", "false")][..],
            &[("format", "csv"), ("csv.field-delimiter", "-"), ("compression", "zstd")][..],
            &[("format", "json"), ("compression", "gzip")][..],
            &[("format", "parquet")][..],
            &[("format", "arrow"), ("arrow.compression", "zstd")][..],
        ] {
            round_trip(options, &rows);
        }
    }

    #[test]
    fn nested_rows_come_back(rows in proptest::collection::vec(cells(), 1..8)) {
        let rows = batch(flat(&rows).into_iter().chain(nested(&rows)).collect());
        for options in [
            &[("format", "json")][..],
            &[("format", "json"), ("json.timestamp-format.standard", "ISO-8601"), ("json.encode.ignore-null-fields", "true")][..],
            &[("format", "parquet"), ("parquet.compression", "zstd")][..],
            &[("format", "arrow")][..],
        ] {
            round_trip(options, &rows);
        }
    }

    #[test]
    fn a_lone_column_keeps_its_nulls(values in proptest::collection::vec(any::<Option<i64>>(), 1..9)) {
        let rows = batch(vec![("n", Arc::new(Int64Array::from(values)) as ArrayRef)]);
        round_trip(&[("format", "csv")], &rows);
        round_trip(&[("format", "csv"), ("csv.null-literal", "NULL")], &rows);
    }
}

/// The arrow crate alone would write the text of its own error.
#[test]
fn json_has_no_text_for_times_beyond_the_calendar() {
    let far = |value: i64| -> ArrayRef { Arc::new(TimestampMillisecondArray::from(vec![Some(0), None, Some(value)])) };
    for value in [i64::MAX, i64::MIN, 253_402_300_800_000] {
        let element = Arc::new(Field::new_list_field(far(value).data_type().clone(), true));
        let list = ListArray::new(element, OffsetBuffer::from_lengths([1, 0, 2]), far(value), None);
        for column in [far(value), Arc::new(list) as ArrayRef] {
            let rows = batch(vec![("t", column)]);
            let sim = Env::sim(1);
            let sink = FileSink::open(sim.env, Path::new("/"), &table(&[("format", "json")], &rows), false);
            let subtask = SubtaskId { operator: OperatorId(1), index: 0 };
            let token = Token { job: JobId(1), generation: Generation(1) };
            let mut writer = sink.expect("opens").writer(subtask, token).expect("opens");
            let error = writer.write(Epoch(1), &rows).and_then(|()| writer.prepare(Epoch(1)).map(drop));
            assert_eq!(error.expect_err("refused").code(), Code::Encode, "{value}");
            // What only shows rows gives the number.
            let shown = super::json::rows_as_text(&rows).expect("shows");
            assert!(shown[2].contains(&value.to_string()) && !shown[2].contains("ERROR"), "{shown:?}");
        }
    }
}

#[test]
fn what_a_format_cannot_hold_is_refused_by_name() {
    let rows = batch(nested(&[]));
    let refused = FileSink::open(Env::sim(1).env, Path::new("/"), &table(&[("format", "csv")], &rows), false);
    let error = refused.err().expect("refused");
    assert_eq!(error.code(), Code::Encode);
    assert!(error.message().contains("`items`"), "{error}");
    let gzip = table(&[("format", "parquet"), ("compression", "gzip")], &rows);
    assert_eq!(
        FileSink::open(Env::sim(1).env, Path::new("/"), &gzip, false).err().expect("refused").code(),
        Code::BadOption
    );
}
