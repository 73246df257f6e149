use std::sync::Arc;

use arrow::array::{
    Array, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array, Float64Array, Int16Array,
    Int32Array, Int64Array, LargeStringArray, StringArray, StringViewArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{Field, Int8Type, Schema};
use proptest::prelude::*;

use super::*;

fn hashes(columns: &[ArrayRef]) -> Vec<u64> {
    let rows = columns.first().map_or(0, |column| column.len());
    KeyHasher::default().hash(columns, rows).expect("hashable").to_vec()
}

fn one(column: impl Array + 'static) -> Vec<u64> {
    hashes(&[Arc::new(column)])
}

/// Durable format: a change here strands all saved state.
#[test]
fn golden_values() {
    let text = one(StringArray::from(vec![Some(""), Some("a"), Some("N14228"), Some("größe"), None]));
    let long = one(Int64Array::from(vec![Some(0), Some(1), Some(-1), Some(i64::MAX), None]));
    let float = one(Float64Array::from(vec![0.0, 1.5, f64::NAN]));
    let flags = one(BooleanArray::from(vec![false, true]));
    let date = one(Date32Array::from(vec![0, 15_706]));
    let time = one(TimestampMillisecondArray::from(vec![0, -1, 1_357_020_000_123]));
    let money = one(Decimal128Array::from(vec![150, -1]).with_precision_and_scale(10, 2).expect("fits"));
    let pair = hashes(&[Arc::new(Int64Array::from(vec![5])), Arc::new(StringArray::from(vec!["UA"]))]);
    let all = [text, long, float, flags, date, time, money, pair, vec![xxh3_64(&[])]];
    let shown: Vec<String> = all
        .iter()
        .map(|group| {
            group.iter().map(|hash| format!("{hash:016x}/{}", key_group(*hash, 256))).collect::<Vec<_>>().join(" ")
        })
        .collect();
    assert_eq!(shown, GOLDEN);
}

const GOLDEN: [&str; 9] = [
    "2388578ed213216e/35 0f542446d4f23420/15 7c05625317d6583c/124 46f3c863daec48e4/70 c44bdff4074eecdb/196",
    "8da2b7ab8b1ee0e7/141 77b9ee4e4f0d5d17/119 51957c455b8e6c65/81 e043660fb5b7a3db/224 c44bdff4074eecdb/196",
    "ee53fd1b240e9dc6/238 1feb7ca504b6705d/31 4540988cb3890760/69",
    "ab94ac0ace7276c0/171 070d80d6a76865f3/7",
    "299374dc10484c16/41 082fb39404ad0a1b/8",
    "0576271951ff8d27/5 f0a7987a1169e7d5/240 ab9cbc1ae259e7ca/171",
    "54e71780cc782d71/84 4152e73e4eea3129/65",
    "9dfe8f0d03a4e7e2/157",
    "2d06800538d394c2/45",
];

#[test]
fn equal_values_hash_equal_in_any_array() {
    let words = vec![Some("JFK"), None, Some("a string longer than a view holds inline"), Some("")];
    let plain = one(StringArray::from(words.clone()));
    assert_eq!(plain, one(LargeStringArray::from(words.clone())));
    assert_eq!(plain, one(StringViewArray::from(words.clone())));
    assert_eq!(plain, one(words.iter().copied().collect::<DictionaryArray<Int8Type>>()));

    let long = one(Int64Array::from(vec![Some(5), None, Some(-7)]));
    assert_eq!(long, one(Int32Array::from(vec![Some(5), None, Some(-7)])));
    assert_eq!(long, one(Int16Array::from(vec![Some(5), None, Some(-7)])));
    assert_eq!(long[0], one(UInt64Array::from(vec![5]))[0]);
    assert_ne!(one(UInt64Array::from(vec![u64::MAX])), one(Int64Array::from(vec![-1])));

    let floats = one(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN, 0.5]));
    assert_eq!((floats[0], floats[2]), (floats[1], floats[3]));
    assert_eq!(one(Float32Array::from(vec![0.5]))[0], floats[4]);

    let ms = one(TimestampMillisecondArray::from(vec![-1_500, 1_500]));
    assert_eq!(ms, one(TimestampMicrosecondArray::from(vec![-1_500_000, 1_500_000]).with_timezone("UTC")));
    assert_eq!(ms, one(TimestampNanosecondArray::from(vec![-1_500_000_000, 1_500_000_000])));
}

#[test]
fn fast_paths_agree_with_the_general_path() {
    let mut encoder = RowEncoder::default();
    let columns: [ArrayRef; 2] = [
        Arc::new(Int64Array::from_iter_values(-600..3_000)),
        Arc::new(StringArray::from_iter_values((0..3_600).map(|i| "x".repeat(i % 41)))),
    ];
    for column in columns {
        let mut general = Vec::new();
        encoder
            .for_each_row(std::slice::from_ref(&column), column.len(), |bytes| general.push(xxh3_64(bytes)))
            .expect("hashable");
        assert_eq!(hashes(&[column]), general);
    }
}

#[test]
fn key_groups_spread_and_bounds_hold() {
    assert_eq!((key_group(0, 256), key_group(u64::MAX, 256), key_group(u64::MAX, 1)), (0, 255, 0));
    assert_eq!(key_group(u64::MAX, u16::MAX), u16::MAX - 1);
    let mut seen = vec![0_u32; 256];
    for hash in one(Int64Array::from_iter_values(0..25_600)) {
        seen[usize::from(key_group(hash, 256))] += 1;
    }
    assert!(seen.iter().all(|count| (50..160).contains(count)), "{seen:?}");
}

#[test]
fn bad_arguments_are_errors() {
    assert!(Partitioner::new(vec![0], 4, 5).is_err());
    assert!(Partitioner::new(vec![0], 4, 0).is_err());
    let batch = batch(&[Some(1), Some(2)]);
    assert!(partition_batch(&batch, &[9], 4, 2).is_err());
}

fn batch(keys: &[Option<i64>]) -> RecordBatch {
    let schema =
        Schema::new(vec![Field::new("key", DataType::Int64, true), Field::new("row", DataType::UInt64, false)]);
    let rows = UInt64Array::from_iter_values(0..keys.len() as u64);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Int64Array::from(keys.to_vec())), Arc::new(rows)])
        .expect("two columns")
}

proptest! {
    /// Every row goes to exactly the owner of its key group, in order.
    #[test]
    fn partitions_are_complete_and_owned(
        keys in prop::collection::vec(prop::option::of(-20_i64..20), 0..300),
        key_groups in 1_u16..300,
        parallelism in 1_u32..9,
    ) {
        let parallelism = parallelism.min(u32::from(key_groups));
        let batch = batch(&keys);
        let groups = KeyHasher::default().key_groups(&batch.columns()[..1], keys.len(), key_groups).expect("hashable");
        let mut found = vec![None; keys.len()];
        for (subtask, part) in partition_batch(&batch, &[0], key_groups, parallelism).expect("valid") {
            prop_assert!(part.num_rows() > 0);
            let rows = part.column(1).as_primitive::<arrow::datatypes::UInt64Type>().values().to_vec();
            prop_assert!(rows.is_sorted());
            for row in rows {
                prop_assert!(found[row as usize].replace(subtask).is_none());
            }
        }
        for (row, subtask) in found.into_iter().enumerate() {
            prop_assert_eq!(subtask, Some(owner_of(groups.value(row), key_groups, parallelism)));
        }
    }

    /// The same parts, each with the sum of its own rows.
    #[test]
    fn parts_have_their_sums(
        keys in prop::collection::vec(prop::option::of(-20_i64..20), 0..300),
        parallelism in 1_u32..9,
    ) {
        let batch = batch(&keys);
        let mut partitioner = Partitioner::new(vec![0], 64, parallelism).expect("valid");
        let mut hasher = RowHasher::default();
        let mut parts = Vec::new();
        for (subtask, part, sum) in partitioner.partition_and_sum(&batch, &mut hasher).expect("valid") {
            prop_assert_eq!(sum, hasher.sum(&part).expect("hashable"));
            parts.push((subtask, part));
        }
        prop_assert_eq!(parts, partitioner.partition(&batch).expect("valid"));
    }
}
