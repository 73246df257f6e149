//! Lines that are decoded together against each of them alone, by the arrow crate with names and nesting as they are.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Fields, TimeUnit};
use proptest::prelude::*;

use super::*;

fn row(members: Vec<Field>) -> DataType {
    DataType::Struct(Fields::from(members))
}

fn schema() -> SchemaRef {
    let inner = row(vec![
        Field::new("t", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("d", DataType::Decimal128(5, 2), true),
    ]);
    let listed = Field::new("item", row(vec![Field::new("x", DataType::Int32, true)]), true);
    let members = vec![
        Field::new("x", DataType::Int64, true),
        Field::new("s", DataType::Utf8, true),
        Field::new("r", inner, true),
        Field::new("l", DataType::List(Arc::new(listed)), true),
    ];
    let strict = row(vec![Field::new("must", DataType::Boolean, false), Field::new("may", DataType::Utf8, true)]);
    Arc::new(Schema::new(vec![
        Field::new("n", DataType::Int32, true),
        Field::new("a", row(members), true),
        Field::new("b", strict, true),
    ]))
}

fn decoder(unread: &[&[&str]], policy: Policy) -> JsonDecoder {
    let schema = schema();
    let path = |path: &&[&str]| path.iter().map(|name| (*name).to_owned()).collect();
    let request = DecodeRequest {
        projection: (0..schema.fields().len()).collect(),
        columns: schema,
        unread: unread.iter().map(path).collect(),
        batch_rows: 1_000,
        policy,
        origin: "test".to_owned(),
        filter: None,
    };
    JsonDecoder::new(JsonOptions::default(), request)
}

/// The rows, and which lines are bad. `alone`: line by line, without the shortcut.
fn decoded(mut decoder: JsonDecoder, lines: &[String], alone: bool) -> (RecordBatch, Vec<usize>) {
    let mut rows = vec![RecordBatch::new_empty(schema())];
    let mut bad = Vec::new();
    let size = if alone { 1 } else { lines.len().max(1) };
    for (first, lines) in lines.chunks(size).enumerate() {
        decoder.reset();
        decoder.is_refused |= alone;
        let mut text = lines.iter().flat_map(|line| format!("{line}\n").into_bytes()).collect::<Vec<u8>>();
        assert_eq!(decoder.scan(&text, true, usize::MAX).records, lines.len());
        let found = decoder.decode(&mut text).expect("lines are decoded or bad");
        bad.extend(found.bad.iter().map(|record| first * size + record.record));
        rows.push(found.rows);
    }
    (concat_batches(&schema(), &rows).expect("one schema"), bad)
}

/// Objects with some of the members, in any order, and others; now and then with another kind of value.
fn object(members: Vec<(&'static str, BoxedStrategy<String>)>) -> BoxedStrategy<String> {
    let member = |(name, value): (&'static str, BoxedStrategy<String>)| prop_oneof![8 => value.prop_map(move |value| vec![format!("\"{name}\":{value}")]), 1 => Just(Vec::new())];
    let members: Vec<_> = members.into_iter().map(member).collect();
    let shape = prop_oneof![6 => Just(0), 1 => Just(1), 1 => Just(2), 1 => Just(3), 1 => Just(4)];
    (members, shape)
        .prop_map(|(members, shape)| {
            let mut members = members.concat();
            match shape {
                0 => {}
                1 => members.reverse(),
                2 => members.push("\"other\" : [ {\"x\":1} ]".to_owned()),
                // What stands there twice: the last counts.
                3 => members.extend(members.first().cloned()),
                _ => {
                    let name =
                        members.first().and_then(|member| member.split_once(':')).map(|(name, _)| name.to_owned());
                    members.extend(name.map(|name| format!("{name}:null")));
                }
            }
            format!("{{{}}}", members.join(if shape == 2 { " , " } else { "," }))
        })
        .boxed()
}

fn one_of(values: &[&'static str]) -> BoxedStrategy<String> {
    prop::sample::select(values.to_vec()).prop_map(str::to_owned).boxed()
}

/// An object mostly, sometimes NULL, seldom what is none.
fn or_another(object: BoxedStrategy<String>) -> BoxedStrategy<String> {
    prop_oneof![60 => object, 9 => Just("null".to_owned()), 1 => one_of(&["1", "[]", "\"{}\"", "{", "true"])].boxed()
}

fn line() -> BoxedStrategy<String> {
    let times = ["\"2026-01-02 03:04:05.678\"", "\"2026-01-02 03:04:05\"", "null"];
    let inner = object(vec![("t", one_of(&times)), ("d", one_of(&["1.25", "\"-3.5\"", "null", "7"]))]);
    let list = one_of(&["[]", "null", "[{\"x\":1},{\"x\":2.0}]", "[{\"y\":1}, null]"]);
    let members = vec![
        ("x", one_of(&["1", "-2", "3.0", "1e2", "null", "\"5\"", "4", "5", "6", "1.5"])),
        ("s", one_of(&["\"e.E\"", "\"\\u00e9\\\"\"", "null", "7", "\"\"", "\"a\"", "\"b\"", "{\"k\": 1}"])),
        ("r", or_another(inner)),
        ("l", list),
    ];
    let strict = object(vec![("must", one_of(&["true", "false", "\"TRUE\""])), ("may", one_of(&["\"x\"", "null"]))]);
    object(vec![("n", one_of(&["1", "2", "null"])), ("a", or_another(object(members))), ("b", or_another(strict))])
}

proptest! {
    #[test]
    fn rows_that_are_taken_apart_are_the_rows(
        lines in proptest::collection::vec(line(), 1..24),
        is_lenient in any::<bool>(),
        is_narrow in any::<bool>(),
    ) {
        let policy = if is_lenient { Policy::Null } else { Policy::DeadLetter };
        let unread: &[&[&str]] =
            if is_narrow { &[&["a", "s"], &["a", "r", "t"], &["a", "r", "d"]] } else { &[] };
        let together = decoded(decoder(unread, policy), &lines, false);
        let alone = decoded(decoder(unread, policy), &lines, true);
        prop_assert_eq!(&together, &alone, "{:#?}", lines);
        let (whole, bad) = decoded(decoder(&[], policy), &lines, false);
        if bad.is_empty() {
            let read = |rows: &RecordBatch| {
                let a = rows.column(1).as_struct();
                [rows.column(0), a.column(0), a.column(3), rows.column(2)].map(Arc::clone)
            };
            prop_assert_eq!(read(&together.0), read(&whole), "{:#?}", lines);
        }
        prop_assert_eq!(members(together.0.columns()), members(alone.0.columns()), "{:#?}", lines);
    }
}

/// The columns inside of rows: where a row is NULL, they are.
fn members(columns: &[ArrayRef]) -> Vec<ArrayRef> {
    let inside = columns.iter().flat_map(|column| match column.as_struct_opt() {
        Some(row) => members(row.columns()),
        None => vec![Arc::clone(column)],
    });
    inside.collect()
}

/// Most random lines come by way of the shortcut, or the test above would say nothing.
#[test]
fn lines_with_rows_are_decoded_in_one_piece() {
    let lines = [
        r#"{"n":1,"a":{"x":1,"s":"a","r":{"t":"2026-01-02 03:04:05","d":1.5},"l":[{"x":1}]},"b":null}"#,
        r#"{"n":2,"a":null,"b":{"must":true,"may":null}}"#,
        r#"{"a":{"r":null,"x":7},"n":3}"#,
        r#"{"b":{"must":false}}"#,
    ]
    .map(str::to_owned);
    let whole = decoded(decoder(&[], Policy::DeadLetter), &lines, true).0;
    for (unread, without) in [(&[][..], 0), (&[&["a", "s"][..], &["a", "r", "t"]][..], 2)] {
        let mut decoder = decoder(unread, Policy::DeadLetter);
        let text = lines.join("\n");
        decoder.scan(text.as_bytes(), true, usize::MAX);
        let rows = decoder.fed().expect("none is refused");
        let nulls = |rows: &RecordBatch| {
            let a = rows.column(1).as_struct();
            [a.column(1).null_count(), a.column(2).as_struct().column(0).null_count()]
        };
        assert_eq!(nulls(&whole), [3, 3]);
        assert_eq!(rows == whole, without == 0);
        assert_eq!(nulls(&rows), if without == 0 { [3, 3] } else { [4, 4] });
    }
}
