//! `PARTITIONED BY`: rows to folders `key=value`, as Hive and Flink name them.
//!
//! Characters that a path or the notation needs are written `%XX`. A null is
//! `__HIVE_DEFAULT_PARTITION__`; an empty text is `key=`, so that the two stay different.

use std::collections::HashMap;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::datatypes::DataType;
use qanat_proto::connector::TableDescriptor;
use qanat_proto::error::{Code, Error, Place, Result};

use crate::encode::text::ColumnText;
use crate::filesystem::partition::NULL_NAMES;
use crate::format::csv::parse_one;
use crate::format::reader::type_name;

/// The folder value of a null.
pub(crate) const NULL_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// Longest folder name that common file systems take, in bytes.
const FOLDER_BYTES_MAX: usize = 255;

/// Indexes of the partition columns, in the order of `PARTITIONED BY`.
pub(super) fn columns_of(table: &TableDescriptor) -> Result<Vec<usize>> {
    let place = || Place::Named(table.name.clone());
    let column = |name: &String| {
        let index = table
            .physical
            .index_of(name)
            .map_err(|_| Error::new(Code::UnknownColumn, format!("no column `{name}` to partition by")).at(place()))?;
        let data_type = table.physical.field(index).data_type();
        if !is_supported(data_type) {
            return Err(Error::new(
                Code::Encode,
                format!("a table cannot be partitioned by {} `{name}`", type_name(data_type)),
            )
            .at(place())
            .hint("partition by text, integer, boolean, date or timestamp columns"));
        }
        if name.starts_with(['.', '_']) {
            return Err(Error::new(Code::Encode, format!("folders of partition column `{name}` would be hidden"))
                .at(place())
                .hint("rename the column so that it does not begin with `.` or `_`"));
        }
        Ok(index)
    };
    table.partitioned_by.iter().map(column).collect()
}

/// The folder of the partition with these values, in the order of `PARTITIONED BY`.
pub(super) fn folder_of(table: &TableDescriptor, values: &[(String, Option<String>)]) -> Result<String> {
    let mut arrays = Vec::with_capacity(values.len());
    for (name, text) in values {
        let field = table.physical.field_with_name(name).map_err(|e| Error::internal(e.to_string()))?;
        let array = parse_one(text.as_deref(), field.data_type()).ok_or_else(|| {
            let text = text.as_deref().unwrap_or("NULL");
            Error::new(Code::Encode, format!("`{text}` is no value of partition column `{name}`"))
                .at(Place::Named(table.name.clone()))
        })?;
        arrays.push((name.clone(), array));
    }
    let names: Vec<String> = values.iter().map(|(name, _)| name.clone()).collect();
    let columns: Vec<usize> = (0..arrays.len()).collect();
    let row = RecordBatch::try_from_iter_with_nullable(arrays.into_iter().map(|(name, array)| (name, array, true)))
        .map_err(|e| Error::internal(e.to_string()))?;
    let group = split(&row, &columns, &names)?.into_iter().next();
    group.map(|group| group.folder).ok_or_else(|| Error::internal("one row gives no folder"))
}

fn is_supported(data_type: &DataType) -> bool {
    data_type.is_integer()
        || data_type.is_string()
        || matches!(data_type, DataType::Boolean | DataType::Date32 | DataType::Timestamp(_, None))
}

/// Rows of one batch that go to one folder.
pub(super) struct Group {
    /// Relative folder, empty without partitions.
    pub(super) folder: String,
    pub(super) rows: RecordBatch,
}

/// Cuts a batch by its partition columns, folders in order of first appearance.
pub(super) fn split(rows: &RecordBatch, columns: &[usize], names: &[String]) -> Result<Vec<Group>> {
    if columns.is_empty() {
        return Ok(vec![Group { folder: String::new(), rows: rows.clone() }]);
    }
    let arrays: Vec<&ArrayRef> = columns.iter().map(|i| rows.column(*i)).collect();
    let texts = arrays.iter().map(|a| ColumnText::new(a.as_ref())).collect::<Result<Vec<_>>>()?;
    // All folder names in one buffer; no allocation per row.
    let mut bytes = Vec::new();
    let mut ends = Vec::with_capacity(rows.num_rows());
    let mut value = Vec::new();
    for row in 0..rows.num_rows() {
        for (i, (text, name)) in texts.iter().zip(names).enumerate() {
            if i > 0 {
                bytes.push(b'/');
            }
            let start = bytes.len();
            escape(name.as_bytes(), &mut bytes);
            bytes.push(b'=');
            if text.is_null(row) {
                bytes.extend_from_slice(NULL_PARTITION.as_bytes());
            } else {
                value.clear();
                text.write(row, &mut value)?;
                if NULL_NAMES.iter().any(|name| value == name.as_bytes()) {
                    // A text that spells a null marker keeps one character escaped.
                    bytes.extend_from_slice(b"%5F");
                    bytes.extend_from_slice(&value[1..]);
                } else {
                    escape(&value, &mut bytes);
                }
            }
            if bytes.len() - start > FOLDER_BYTES_MAX {
                return Err(Error::new(
                    Code::Encode,
                    format!("a value of partition column `{name}` is too long for a folder name"),
                )
                .hint(format!("`{name}=value` may have {FOLDER_BYTES_MAX} bytes; partition by another column")));
            }
        }
        ends.push(bytes.len());
    }
    let mut index: HashMap<&[u8], usize> = HashMap::new();
    let mut members: Vec<(&[u8], Vec<u32>)> = Vec::new();
    let mut start = 0;
    for (row, end) in (0_u32..).zip(&ends) {
        let folder = &bytes[start..*end];
        start = *end;
        let at = *index.entry(folder).or_insert_with(|| {
            members.push((folder, Vec::new()));
            members.len() - 1
        });
        members[at].1.push(row);
    }
    let group = |(folder, chosen): (&[u8], Vec<u32>)| {
        let folder = String::from_utf8_lossy(folder).into_owned();
        if chosen.len() == rows.num_rows() {
            return Ok(Group { folder, rows: rows.clone() });
        }
        let rows = arrow::compute::take_record_batch(rows, &UInt32Array::from(chosen))
            .map_err(|e| Error::internal(format!("take rows of a partition: {e}")))?;
        Ok(Group { folder, rows })
    };
    members.into_iter().map(group).collect()
}

/// Hive's set of characters, and NUL.
fn escape(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text {
        let special = matches!(
            byte,
            0..=0x1f
                | 0x7f
                | b'"'
                | b'#'
                | b'%'
                | b'\''
                | b'*'
                | b'/'
                | b':'
                | b'='
                | b'?'
                | b'\\'
                | b'{'
                | b'['
                | b']'
                | b'^'
        );
        if special {
            out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        } else {
            out.push(*byte);
        }
    }
}

/// The text that was escaped. `%` without two hex digits stands for itself.
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let decoded = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok()))
            .flatten();
        match decoded {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The values that a path's folders give, in order: `None` for null.
pub(crate) fn parse_folder(path: &str) -> Vec<(String, Option<String>)> {
    let folders = path.rsplit_once('/').map_or("", |(folders, _)| folders);
    folders
        .split('/')
        .filter_map(|folder| folder.split_once('='))
        .map(|(key, value)| (unescape(key), (value != NULL_PARTITION).then(|| unescape(value))))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};
    use proptest::prelude::*;

    use super::*;

    fn folders(values: Vec<Option<&str>>) -> Vec<(String, usize)> {
        let count = i64::try_from(values.len()).expect("few");
        let rows = RecordBatch::try_from_iter([
            ("k", Arc::new(StringArray::from(values)) as ArrayRef),
            ("v", Arc::new(Int64Array::from_iter_values(0..count)) as ArrayRef),
        ])
        .expect("a batch");
        let groups = split(&rows, &[0], &["k".to_owned()]).expect("splits");
        groups.into_iter().map(|g| (g.folder, g.rows.num_rows())).collect()
    }

    #[test]
    fn folders_are_hives() {
        let found = folders(vec![Some("AA"), None, Some("a/b=c"), Some("AA"), Some("")]);
        let expected = [("k=AA", 2), ("k=__HIVE_DEFAULT_PARTITION__", 1), ("k=a%2Fb%3Dc", 1), ("k=", 1)];
        assert_eq!(found, expected.map(|(f, n)| (f.to_owned(), n)));
    }

    proptest! {
        #[test]
        fn folders_read_back(value in proptest::option::of(".{0,20}")) {
            let found = folders(vec![value.as_deref()]);
            let path = format!("{}/part-x.csv", found[0].0);
            prop_assert_eq!(path.matches('/').count(), 1);
            prop_assert_eq!(parse_folder(&path), vec![("k".to_owned(), value)]);
        }

        #[test]
        fn the_null_marker_as_a_text_stays_a_text(tail in "[a-z]?") {
            let text = format!("{NULL_PARTITION}{tail}");
            let found = folders(vec![Some(&text)]);
            prop_assert_eq!(parse_folder(&format!("{}/x", found[0].0)), vec![("k".to_owned(), Some(text))]);
        }
    }
}
