//! `docs/receipts.md` holds a table of vectors made by its own program; these tests hold the code to it.

use std::sync::Arc;

use arrow::array::types::{Int8Type, Int32Type};
use arrow::array::{
    Array, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, FixedSizeListArray, Float32Array,
    Float64Array, Int32Array, Int32Builder, Int64Array, LargeListArray, LargeStringArray, ListArray, ListViewArray,
    MapArray, MapBuilder, RunArray, StringArray, StringBuilder, StringViewArray, StructArray, Time64MicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray, UnionArray, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Fields, UnionFields};
use proptest::prelude::*;

use super::*;

const PAGE: &str = include_str!("../../../docs/receipts.md");

fn array(array: impl Array + 'static) -> ArrayRef {
    Arc::new(array)
}

fn encoded(columns: &[ArrayRef]) -> Vec<Vec<u8>> {
    let rows = columns.first().map_or(0, |column| column.len());
    let mut all = Vec::new();
    RowEncoder::default().for_each_row(columns, rows, |bytes| all.push(bytes.to_vec())).expect("encodable");
    all
}

fn int_list(rows: Vec<Option<Vec<Option<i32>>>>) -> ListArray {
    ListArray::from_iter_primitive::<Int32Type, _, _>(rows)
}

fn map(rows: &[Option<&[(&str, Option<i32>)]>]) -> MapArray {
    let mut builder = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    for row in rows {
        for (key, value) in row.unwrap_or_default() {
            builder.keys().append_value(key);
            builder.values().append_option(*value);
        }
        builder.append(row.is_some()).expect("keys and values are as many");
    }
    builder.finish()
}

fn pair(a: Vec<Option<i32>>, b: Vec<Option<&str>>, valid: Vec<bool>) -> StructArray {
    let fields = Fields::from(vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Utf8, true)]);
    StructArray::new(fields, vec![array(Int32Array::from(a)), array(StringArray::from(b))], Some(valid.into()))
}

#[test]
fn the_vectors_of_the_page_hold() {
    let columns: Vec<Vec<ArrayRef>> = vec![
        vec![array(Int64Array::from(vec![None]))],
        vec![array(BooleanArray::from(vec![true]))],
        vec![array(Int32Array::from(vec![5]))],
        vec![array(Int64Array::from(vec![-1]))],
        vec![array(Float32Array::from(vec![0.1]))],
        vec![array(Float64Array::from(vec![-0.0]))],
        vec![array(Float64Array::from(vec![1.5]))],
        vec![array(Decimal128Array::from(vec![-1250]).with_precision_and_scale(10, 2).expect("fits"))],
        vec![array(StringArray::from(vec![""]))],
        vec![array(StringArray::from(vec!["größe"]))],
        vec![array(BinaryArray::from(vec![&[0_u8, 255][..]]))],
        vec![array(Date32Array::from(vec![15_736]))],
        vec![array(Time64MicrosecondArray::from(vec![86_399_500_000]))],
        vec![array(TimestampMillisecondArray::from(vec![1_357_020_000_123]))],
        vec![array(TimestampNanosecondArray::from(vec![-1]))],
        vec![array(int_list(vec![Some(vec![Some(1), None])]))],
        vec![array(pair(vec![Some(1)], vec![None], vec![true]))],
        vec![array(map(&[Some(&[("x", Some(1))])]))],
        vec![array(Int64Array::from(vec![1])), array(StringArray::from(vec!["UA"]))],
    ];
    let table = PAGE.split("| type | value | bytes | hash |").nth(1).expect("the page has a table");
    let lines: Vec<&str> = table.lines().skip(2).take_while(|line| line.starts_with('|')).collect();
    assert_eq!(lines.len(), columns.len());
    for (line, columns) in lines.into_iter().zip(columns) {
        let cells: Vec<&str> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let bytes: String = encoded(&columns)[0].iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(bytes, cells[3], "{line}");
        let sum = RowHasher::default().sum_columns(&columns, 1).expect("encodable");
        assert_eq!(sum, RowSum { rows: 1, hash: cells[4].parse().expect("hex") }, "{line}");
    }
}

/// What lies under a null, and how lists are laid out, must not show.
#[test]
fn equal_nested_values_encode_equal_in_any_layout() {
    let field = Arc::new(Field::new_list_field(DataType::Int32, true));
    let plain = int_list(vec![Some(vec![Some(1), Some(2)]), None, Some(vec![]), Some(vec![Some(3), None])]);
    let expected = encoded(&[array(plain)]);

    // A null row over elements that are there, and elements before the first row.
    let values = array(Int32Array::from(vec![Some(9), Some(1), Some(2), Some(7), Some(8), Some(3), None]));
    let nulls = NullBuffer::from(vec![true, false, true, true]);
    let offsets = OffsetBuffer::new(ScalarBuffer::from(vec![1, 3, 5, 5, 7]));
    let hidden = ListArray::new(field.clone(), offsets, values.clone(), Some(nulls.clone()));
    assert_eq!(encoded(&[array(hidden)]), expected);
    let offsets = OffsetBuffer::new(ScalarBuffer::from(vec![1_i64, 3, 5, 5, 7]));
    let large = LargeListArray::new(field.clone(), offsets, values.clone(), Some(nulls.clone()));
    assert_eq!(encoded(&[array(large)]), expected);
    let view = ListViewArray::new(field.clone(), vec![1, 3, 0, 5].into(), vec![2, 2, 0, 2].into(), values, Some(nulls));
    assert_eq!(encoded(&[array(view)]), expected);

    let values = array(Int32Array::from(vec![Some(1), Some(2), Some(5), Some(5), Some(3), None]));
    let fixed = FixedSizeListArray::new(field, 2, values, Some(NullBuffer::from(vec![true, false, true])));
    let expected = encoded(&[array(int_list(vec![Some(vec![Some(1), Some(2)]), None, Some(vec![Some(3), None])]))]);
    assert_eq!(encoded(&[array(fixed)]), expected);

    let shown = pair(vec![Some(1), Some(2), None], vec![None, Some("x"), None], vec![true, false, true]);
    let other = pair(vec![Some(1), None, None], vec![None, None, None], vec![true, false, true]);
    assert_eq!(encoded(&[array(shown.clone())]), encoded(&[array(other)]));
    assert_eq!(encoded(&[array(shown.slice(1, 2))]), encoded(&[array(shown)])[1..]);
    let maps = map(&[Some(&[("a", None), ("b", Some(2))]), None, Some(&[])]);
    assert_eq!(encoded(&[array(maps.slice(1, 2))]), encoded(&[array(maps)])[1..]);
}

#[test]
fn dictionaries_and_runs_encode_as_their_values() {
    let words = [Some("JFK"), Some("JFK"), None, Some("a string too long for a view to hold inline")];
    let expected = encoded(&[array(StringArray::from(words.to_vec()))]);
    assert_eq!(encoded(&[array(words.iter().copied().collect::<DictionaryArray<Int8Type>>())]), expected);
    assert_eq!(encoded(&[array(words.iter().copied().collect::<RunArray<Int32Type>>())]), expected);
    assert_eq!(encoded(&[array(StringViewArray::from(words.to_vec()))]), expected);
    assert_eq!(encoded(&[array(LargeStringArray::from(words.to_vec()))]), expected);
    let sliced = words.iter().copied().collect::<RunArray<Int32Type>>().slice(1, 3);
    assert_eq!(encoded(&[array(sliced)]), expected[1..]);
    assert_eq!(encoded(&[new_null_array(&DataType::Null, 4)])[0], [0]);
}

#[test]
fn a_union_is_refused_and_no_columns_are_not() {
    let fields = UnionFields::from_iter([(0, Arc::new(Field::new("a", DataType::Int32, true)))]);
    let union = UnionArray::try_new(fields, vec![0].into(), None, vec![array(Int32Array::from(vec![1]))]);
    let union = array(union.expect("one row"));
    assert!(crate::canonical::check_type(union.data_type()).is_err());
    assert!(RowHasher::default().sum_columns(&[union], 1).is_err());
    let none = RowHasher::default().sum_columns(&[], 3).expect("no columns");
    assert_eq!((none.rows, none.hash.0), (3, hash_bytes(&[]).wrapping_mul(3)));
}

proptest! {
    /// The sum does not depend on the order of rows nor on how they are cut, and notices any change.
    #[test]
    fn sums_are_of_multisets(
        rows in prop::collection::vec((any::<Option<i64>>(), any::<Option<String>>()), 1..40),
        cut in any::<prop::sample::Index>(),
        changed in any::<prop::sample::Index>(),
    ) {
        let mut hasher = RowHasher::default();
        let mut sum = |rows: &[(Option<i64>, Option<String>)]| {
            let numbers = array(rows.iter().map(|row| row.0).collect::<Int64Array>());
            let texts = array(rows.iter().map(|row| row.1.clone()).collect::<StringArray>());
            hasher.sum_columns(&[numbers, texts], rows.len()).expect("encodable")
        };
        let whole = sum(&rows);
        let cut = cut.index(rows.len());
        let mut parts = sum(&rows[cut..]);
        parts.add(sum(&rows[..cut]));
        prop_assert_eq!(parts, whole);
        let mut reversed = rows.clone();
        reversed.reverse();
        prop_assert_eq!(sum(&reversed), whole);
        let mut other = rows.clone();
        let row = &mut other[changed.index(rows.len())];
        row.0 = Some(row.0.unwrap_or(0).wrapping_add(1));
        prop_assert_ne!(sum(&other), whole);
    }
}

#[test]
fn every_row_is_of_a_group() {
    let rows = RecordBatch::try_from_iter([("n", array(Int64Array::from(vec![1, 2, 3])))]).expect("one column");
    let mut hasher = RowHasher::default();
    let sums = hasher.sum_by_group(&rows, &[1, 0, 1], 3).expect("hashable");
    assert_eq!(sums.iter().map(|sum| sum.rows).collect::<Vec<_>>(), [1, 2, 0]);
    let mut all = RowSum::default();
    sums.into_iter().for_each(|sum| all.add(sum));
    assert_eq!(all, hasher.sum(&rows).expect("hashable"));
    for (groups, why) in [(&[1, 0][..], "a row more"), (&[1, 0, 1, 1], "a row less"), (&[1, 3, 1], "no such group")] {
        assert!(hasher.sum_by_group(&rows, groups, 3).is_err(), "{why}");
    }
}
