//! Values of partition columns, read back from folder names such as `day=2013-01-01`.

use arrow::array::ArrayRef;
use arrow::datatypes::Schema;
use qanat_proto::error::{Code, Error, Result};

use crate::format::csv;

/// The folder names that stand for NULL, ours (and Flink's) and Hive's.
pub(super) const NULL_NAMES: [&str; 2] = ["__DEFAULT_PARTITION__", "__HIVE_DEFAULT_PARTITION__"];

/// The partition values of one file, as arrays of length 1 by column name.
pub(super) struct PartitionValues(Vec<(String, ArrayRef)>);

impl PartitionValues {
    /// Reads them from a path below the table's path.
    ///
    /// # Errors
    /// E0209 if a folder is missing or its value is not one of the column's type.
    pub(super) fn of(relative: &str, partitioned_by: &[String], physical: &Schema) -> Result<Self> {
        let mut values = Vec::with_capacity(partitioned_by.len());
        for name in partitioned_by {
            let field = physical.field_with_name(name).map_err(|e| Error::internal(e.to_string()))?;
            let text = relative
                .split('/')
                .filter_map(|folder| folder.split_once('='))
                .find(|(key, _)| unescape(key).eq_ignore_ascii_case(name))
                .map(|(_, value)| (!NULL_NAMES.contains(&value)).then(|| unescape(value)));
            let Some(text) = text else {
                let message = format!("`{relative}` does not lie in a folder `{name}=…`");
                let hint = format!("the table is partitioned by `{name}`");
                return Err(Error::new(Code::HeaderMismatch, message).hint(hint));
            };
            let Some(value) = csv::parse_one(text.as_deref(), field.data_type()) else {
                let text = text.as_deref().unwrap_or("NULL");
                let message = format!("folder `{name}={text}` does not hold a value of the column");
                return Err(Error::new(Code::HeaderMismatch, message));
            };
            values.push((name.clone(), value));
        }
        Ok(Self(values))
    }

    pub(super) fn get(&self, name: &str) -> Option<&ArrayRef> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }
}

/// Replaces `%XX`; what is not valid stays as it stands.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [b'%', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok()).unwrap_or(0);
                bytes.push(digit(*high) * 16 + digit(*low));
                after
            }
            [byte, after @ ..] => {
                bytes.push(*byte);
                after
            }
            [] => break,
        };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{DataType, Field, Int32Type};

    use super::*;

    #[test]
    fn values_come_from_folders() {
        let schema = Schema::new(vec![
            Field::new("day", DataType::Utf8, true),
            Field::new("hour", DataType::Int32, true),
            Field::new("x", DataType::Int32, true),
        ]);
        let by = ["day".to_owned(), "hour".to_owned()];
        let values = PartitionValues::of("day=a%2Fb/hour=7/part.csv", &by, &schema).expect("good path");
        assert_eq!(values.get("day").map(|a| a.as_string::<i32>().value(0).to_owned()), Some("a/b".to_owned()));
        assert_eq!(values.get("hour").map(|a| a.as_primitive::<Int32Type>().value(0)), Some(7));
        let values = PartitionValues::of("day=x/hour=__DEFAULT_PARTITION__/p.csv", &by, &schema).expect("good path");
        assert!(values.get("hour").is_some_and(|a| a.is_null(0)));
        let values = PartitionValues::of("day=%5F_DEFAULT_PARTITION__/hour=1/p.csv", &by, &schema).expect("good path");
        assert!(values.get("day").is_some_and(|a| a.is_valid(0)), "a text that spells the marker");
        for bad in ["day=x/p.csv", "day=x/hour=noon/p.csv"] {
            let error = PartitionValues::of(bad, &by, &schema).err().expect("refused");
            assert_eq!(error.code(), Code::HeaderMismatch);
        }
    }
}
