//! CSV against an oracle: random tables, written by rule, must decode to what was written, in any
//! chunking and batch size; random bytes must never panic and never lose a line.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use proptest::prelude::*;
use qanat_proto::error::Result;

use super::{CsvDecoder, CsvOptions, Header};
use crate::contract::StopFlag;
use crate::format::reader::{BadRecord, DecodeRequest, FormatReader, Policy, Read};
use crate::format::stream::{ByteStream, Fill};
use crate::format::text::{Start, TextPosition, TextReader};

/// Bytes in pieces of a fixed size.
struct Pieces {
    bytes: Vec<u8>,
    at: usize,
    piece: usize,
}

impl ByteStream for Pieces {
    fn fill(&mut self, buffer: &mut Vec<u8>) -> Result<Fill> {
        let end = (self.at + self.piece).min(self.bytes.len());
        let piece = &self.bytes[self.at..end];
        buffer.extend_from_slice(piece);
        self.at = end;
        Ok(if piece.is_empty() { Fill::End } else { Fill::Bytes(piece.len()) })
    }
}

fn options() -> CsvOptions {
    CsvOptions {
        delimiter: b',',
        quote: Some(b'"'),
        escape: None,
        comment: None,
        null_literal: Some("NA".to_owned()),
        array_delimiter: b';',
        header: Header::No,
        multiline: true,
    }
}

/// Column 0 is BIGINT, the others STRING.
fn read(text: &[u8], columns: usize, piece: usize, batch_rows: usize) -> (RecordBatch, Vec<BadRecord>, u64) {
    let fields: Vec<Field> = (0..columns)
        .map(|i| Field::new(format!("c{i}"), if i == 0 { DataType::Int64 } else { DataType::Utf8 }, true))
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let request = DecodeRequest {
        columns: Arc::clone(&schema),
        projection: (0..columns).collect(),
        unread: Vec::new(),
        batch_rows,
        policy: Policy::DeadLetter,
        origin: "test".to_owned(),
        filter: None,
    };
    let stream = Box::new(Pieces { bytes: text.to_vec(), at: 0, piece });
    let decoder = Box::new(CsvDecoder::new(options(), request));
    let mut reader = TextReader::new(stream, decoder, Start::FileStart, TextPosition::default(), None);
    let (mut batches, mut bad, mut bytes) = (Vec::new(), Vec::new(), 0);
    loop {
        match reader.next(&StopFlag::default()).expect("bad records are no errors") {
            Read::Chunk(chunk) => {
                assert_eq!(chunk.records, (chunk.rows.num_rows() + chunk.bad.len()) as u64);
                bytes += chunk.bytes;
                batches.push(chunk.rows);
                bad.extend(chunk.bad);
            }
            Read::Pending => panic!("a test stream does not wait"),
            Read::End => break,
        }
    }
    (concat_batches(&schema, &batches).expect("one schema"), bad, bytes)
}

/// A field: NULL, or text that may hold anything.
fn field() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        1 => Just(None),
        3 => "[a-z ]{0,12}".prop_map(Some),
        2 => "[a\",\n\ré日]{0,6}".prop_map(Some),
        1 => Just(Some("NA".to_owned())),
    ]
}

fn table() -> impl Strategy<Value = (Vec<(Option<i64>, Vec<Option<String>>)>, bool)> {
    (1..4_usize).prop_flat_map(|texts| {
        let row = (proptest::option::of(any::<i64>()), proptest::collection::vec(field(), texts));
        (proptest::collection::vec(row, 1..30), any::<bool>())
    })
}

fn written(rows: &[(Option<i64>, Vec<Option<String>>)], is_crlf: bool) -> String {
    let mut text = String::new();
    for (number, texts) in rows {
        text.push_str(&number.map_or("NA".to_owned(), |n| n.to_string()));
        for field in texts {
            text.push(',');
            match field {
                None => text.push_str("NA"),
                Some(value) if value == "NA" || value.contains(['"', ',', '\n', '\r']) => {
                    text.push_str(&format!("\"{}\"", value.replace('"', "\"\"")));
                }
                Some(value) => text.push_str(value),
            }
        }
        text.push_str(if is_crlf { "\r\n" } else { "\n" });
    }
    text
}

proptest! {
    #[test]
    fn random_tables_come_back((rows, is_crlf) in table(), piece in 1..40_usize, batch_rows in 1..8_usize) {
        let text = written(&rows, is_crlf);
        let columns = 1 + rows[0].1.len();
        let (batch, bad, bytes) = read(text.as_bytes(), columns, piece, batch_rows);
        prop_assert!(bad.is_empty(), "{bad:?} in {text:?}");
        prop_assert_eq!(bytes, text.len() as u64);
        prop_assert_eq!(batch.num_rows(), rows.len());
        let numbers = batch.column(0).as_primitive::<Int64Type>();
        for (row, (number, texts)) in rows.iter().enumerate() {
            prop_assert_eq!(numbers.is_valid(row).then(|| numbers.value(row)), *number);
            for (column, expected) in texts.iter().enumerate() {
                let column = batch.column(column + 1).as_string::<i32>();
                let found = column.is_valid(row).then(|| column.value(row).to_owned());
                prop_assert_eq!(&found, expected);
            }
        }
    }

    #[test]
    fn random_bytes_lose_nothing_whatever_the_pieces(
        text in proptest::collection::vec(prop_oneof![
            Just(b'1'), Just(b','), Just(b'"'), Just(b'\n'), Just(b'\r'), Just(0xff_u8), Just(b'a')
        ], 0..200),
        piece in 1..20_usize,
        batch_rows in 1..5_usize,
    ) {
        let whole = read(&text, 2, 1000, 1000);
        let pieces = read(&text, 2, piece, batch_rows);
        prop_assert_eq!(&whole.0, &pieces.0);
        let raws = |bad: &[BadRecord]| bad.iter().map(|b| (b.reason.clone(), b.raw.clone())).collect::<Vec<_>>();
        prop_assert_eq!(raws(&whole.1), raws(&pieces.1));
    }

    #[test]
    fn clean_numbers_decode_as_the_arrow_crate_does(
        rows in proptest::collection::vec((any::<i64>(), -1e9..1e9_f64, "[a-z]{1,9}"), 1..50),
    ) {
        let text: String = rows.iter().map(|(a, b, c)| format!("{a},{b},{c}\n")).collect();
        let schema = Arc::new(Schema::new(vec![
            Field::new("a", DataType::Int64, true),
            Field::new("b", DataType::Float64, true),
            Field::new("c", DataType::Utf8, true),
        ]));
        let mut oracle = arrow::csv::ReaderBuilder::new(Arc::clone(&schema)).build(text.as_bytes()).expect("opens");
        let expected = oracle.next().expect("a batch").expect("decodes");
        let request = DecodeRequest {
            columns: schema,
            projection: vec![0, 1, 2],
            unread: Vec::new(),
            batch_rows: 1024,
            policy: Policy::DeadLetter,
            origin: "test".to_owned(),
            filter: None,
        };
        let stream = Box::new(Pieces { bytes: text.into_bytes(), at: 0, piece: 100 });
        let decoder = Box::new(CsvDecoder::new(options(), request));
        let mut reader = TextReader::new(stream, decoder, Start::FileStart, TextPosition::default(), None);
        let Read::Chunk(chunk) = reader.next(&StopFlag::default()).expect("decodes") else { panic!("a chunk") };
        prop_assert_eq!(chunk.rows, expected);
    }
}

/// What is taken, and the lines that are not.
fn taken(text: &str) -> (Vec<String>, Vec<String>) {
    let (rows, bad, _) = read(text.as_bytes(), 2, 1000, 1000);
    let good = rows.column(1).as_string::<i32>().iter().map(|t| t.unwrap_or("NULL").to_owned()).collect();
    (good, bad.iter().map(|bad| String::from_utf8_lossy(&bad.raw).into_owned()).collect())
}

#[test]
fn text_behind_a_closing_quote_makes_its_line_bad_and_no_other() {
    let (good, bad) = taken("1,\"a\"\"b\" \t\n2,\"n\"x\n3,\"c\nd\"\n4,e\n");
    assert_eq!(good, ["a\"b", "c\nd", "e"]);
    assert_eq!(bad, ["2,\"n\"x"]);
    // A stray quote, and the next one far behind it.
    let lines: String = (0..100).map(|n| format!("{n},{}v{n}\n", if n % 40 == 7 { "\"" } else { "" })).collect();
    let (good, bad) = taken(&lines);
    assert_eq!((good.len(), bad.len()), (97, 3));
    assert_eq!(bad[1], "47,\"v47");
}
