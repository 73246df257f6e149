//! Files that change while they are read, or between two reads of them.

use std::io::Write;
use std::sync::Arc;

use arrow::array::RecordBatch;
use qanat_proto::error::Code;

use super::{Folder, INT, STRING, case, drain, ints};
use crate::contract::{ReadOutcome, Split, StopFlag};

/// `count` lines with a number each.
fn lines(from: i32, count: i32) -> String {
    (from..from + count).map(|n| format!("{n}\n")).collect()
}

#[test]
fn a_compressed_file_that_was_cut_off_may_be_mended_and_no_other_taken_for_it() {
    let folder = Folder::new();
    let gzip = |factor: u32| {
        let text: String = (0..5000).map(|n| format!("{n},text {}\n", n * factor % 1013)).collect();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text.as_bytes()).expect("compresses");
        gzip.finish().expect("compresses")
    };
    let (whole, other) = (gzip(7919), gzip(7920));
    folder.write("a.csv.gz", &whole[..whole.len() / 2]);
    let case = case(&[("a", INT), ("b", STRING)], &[("path", "a.csv.gz"), ("format", "csv")]);
    let source = case.with(|c| c.request.batch_rows = 997).source(&folder);
    let split = source.discover().expect("one split").remove(0);
    let mut reader = source.open(&split, &split.start).expect("opens");
    let ReadOutcome::Batch(first) = reader.next(&StopFlag::default()).expect("rows") else { panic!("no batch") };
    folder.write("a.csv.gz", &whole);
    let rest = drain(source.as_ref(), &split, &first.position);
    let rest: u64 = rest.batches.iter().map(|batch| batch.records).sum();
    assert_eq!(first.records + rest, 5000);
    folder.write("a.csv.gz", &other);
    let mut reader = source.open(&split, &first.position).expect("opens");
    let error = loop {
        match reader.next(&StopFlag::default()) {
            Ok(ReadOutcome::Pending) => {}
            Ok(_) => panic!("another file was taken for the first"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), Code::SourceChanged);
}

#[test]
fn a_followed_file_that_was_replaced_is_refused() {
    let folder = Folder::new();
    folder.write("in/a.csv", lines(0, 100));
    let options = [("path", "in"), ("format", "csv"), ("source.monitor-interval", "1 ms")];
    let source = case(&[("a", INT)], &options).source(&folder);
    let split = source.discover().expect("one split").remove(0);
    let mut reader = source.open(&split, &split.start).expect("opens");
    let ReadOutcome::Batch(batch) = reader.next(&StopFlag::default()).expect("rows") else { panic!("no batch") };
    folder.append("in/a.csv", &lines(100, 100));
    assert!(source.open(&split, &batch.position).is_ok(), "it has grown");
    folder.write("in/new", lines(500, 100) + &lines(600, 100) + &lines(700, 100));
    std::fs::rename(folder.0.join("in/new"), folder.0.join("in/a.csv")).expect("replaces");
    assert_eq!(source.open(&split, &batch.position).err().map(|e| e.code()), Some(Code::SourceChanged));
    // The reader that has the old file open reads it to its end, and then notices.
    let error = loop {
        match reader.next(&StopFlag::default()) {
            Ok(ReadOutcome::Batch(batch)) => assert!(ints(&Some(batch.rows), 0).iter().all(|n| n < &Some(500))),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), Code::SourceChanged);
}

#[test]
fn a_followed_file_that_was_read_and_replaced_is_refused() {
    let folder = Folder::new();
    let parquet = |rows: i32| {
        let column = Arc::new(arrow::array::Int32Array::from_iter_values(0..rows)) as arrow::array::ArrayRef;
        let rows = RecordBatch::try_from_iter([("a", column)]).expect("rows");
        let mut writer = parquet::arrow::ArrowWriter::try_new(Vec::new(), rows.schema(), None).expect("a writer");
        writer.write(&rows).expect("written");
        writer.into_inner().expect("whole")
    };
    folder.write("in/a.parquet", parquet(100));
    let options = [("path", "in"), ("format", "parquet"), ("source.monitor-interval", "1 ms")];
    let source = case(&[("a", INT)], &options).source(&folder);
    let split = source.discover().expect("one split").remove(0);
    let mut reader = source.open(&split, &split.start).expect("opens");
    let mut position = split.start.clone();
    while let ReadOutcome::Batch(batch) = reader.next(&StopFlag::default()).expect("rows") {
        position = batch.position;
    }
    let found = |folder: &Folder| {
        let source = case(&[("a", INT)], &options).source(folder);
        source.check_finished(&source.discover().expect("one split").remove(0), &position)
    };
    assert!(found(&folder).is_ok());
    folder.write("in/a.parquet", parquet(100));
    assert!(found(&folder).is_ok(), "it was only touched");
    folder.write("in/a.parquet", parquet(3_000));
    assert_eq!(found(&folder).err().map(|e| e.code()), Some(Code::SourceChanged));
}

#[test]
fn a_file_that_changes_while_it_is_read_is_refused() {
    for (name, change) in [
        ("cut", (|file: &std::fs::File| file.set_len(150_000)) as fn(&std::fs::File) -> std::io::Result<()>),
        ("grown", |mut file: &std::fs::File| file.write_all(b"7\n")),
    ] {
        let folder = Folder::new();
        folder.write("a.csv", lines(0, 40_000));
        let case = case(&[("a", INT)], &[("path", "a.csv"), ("format", "csv")]).with(|c| c.request.batch_rows = 512);
        let source = case.source(&folder);
        let split = source.discover().expect("one split").remove(0);
        let mut reader = source.open(&split, &split.start).expect("opens");
        assert!(matches!(reader.next(&StopFlag::default()), Ok(ReadOutcome::Batch(_))));
        let file = std::fs::OpenOptions::new().append(true).open(folder.0.join("a.csv")).expect("opens");
        change(&file).expect(name);
        let error = reader.next(&StopFlag::default()).err().expect(name);
        assert_eq!(error.code(), Code::SourceChanged, "{name}: {error}");
    }
}

#[test]
fn a_followed_file_that_was_cut_and_filled_anew_is_refused() {
    let folder = Folder::new();
    folder.write("in/a.csv", lines(1_000, 100));
    let options = [("path", "in"), ("format", "csv"), ("source.monitor-interval", "1 ms")];
    let source = case(&[("a", INT)], &options).source(&folder);
    let split = source.discover().expect("one split").remove(0);
    let mut reader = source.open(&split, &split.start).expect("opens");
    let mut read = 0;
    while let ReadOutcome::Batch(batch) = reader.next(&StopFlag::default()).expect("reads") {
        read += batch.records;
    }
    assert_eq!(read, 100);
    let anew = lines(2_000, 100) + &lines(3_000, 100);
    std::fs::write(folder.0.join("in/a.csv"), anew).expect("cut and filled");
    let error = loop {
        match reader.next(&StopFlag::default()) {
            Ok(ReadOutcome::Pending) => {}
            Ok(_) => panic!("rows of another file"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), Code::SourceChanged);
}

#[test]
fn a_file_that_changed_in_a_bounded_read_is_refused() {
    let folder = Folder::new();
    folder.write("a.csv", "1\n2\n");
    let case = case(&[("a", INT)], &[("path", "a.csv"), ("format", "csv")]);
    let source = case.source(&folder);
    let split = source.discover().expect("one split").remove(0);
    // Nothing of it was read: the file that is there now is the one.
    folder.append("a.csv", "3\n");
    let read = drain(source.as_ref(), &split, &split.start);
    assert_eq!(read.batches.iter().map(|batch| batch.records).sum::<u64>(), 3);
    let position = &read.batches[0].position;
    assert!(source.open(&split, position).is_ok());
    folder.append("a.csv", "4\n");
    // Whoever goes on from a position may call that the start.
    let resumed = Split { start: position.clone(), ..split };
    assert_eq!(source.open(&resumed, position).err().map(|e| e.code()), Some(Code::SourceChanged));
}
