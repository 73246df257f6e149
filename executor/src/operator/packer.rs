//! The state of a key as bytes: rows of several tables, one behind the other.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, Rows, SortField};
use qanat_proto::error::{Error, Result};
use qanat_storage::spill::Entries;

use super::evaluate::internal;

/// Packs the rows of keys, and unpacks them.
///
/// ```text
/// value   for each table: number of rows u32, then each row as its length u32 and its bytes (`arrow::row`)
/// ```
///
/// Bytes are those of one process: nothing here is kept beyond it.
pub(crate) struct Packer {
    tables: Vec<RowConverter>,
}

/// Rows of one table: those of the first key, then those of the next one.
#[derive(Default)]
pub(crate) struct PackedRows {
    pub(crate) columns: Vec<ArrayRef>,
    /// By key, how many rows it has.
    pub(crate) counts: Vec<u32>,
}

impl Packer {
    /// `tables`: the columns of each. None if there is a type of which no row can be made.
    pub(crate) fn new(tables: &[Vec<DataType>]) -> Result<Option<Self>> {
        let mut converters = Vec::with_capacity(tables.len());
        for columns in tables {
            let fields: Vec<SortField> = columns.iter().cloned().map(SortField::new).collect();
            if !RowConverter::supports_fields(&fields) {
                return Ok(None);
            }
            converters.push(RowConverter::new(fields).map_err(internal)?);
        }
        Ok(Some(Self { tables: converters }))
    }

    /// Puts the rows of each key into `entries`. `tables`: as many as there are, with counts for all of the keys.
    pub(crate) fn pack<'k>(
        &self,
        keys: impl Iterator<Item = &'k [u8]>,
        tables: &[PackedRows],
        entries: &mut Entries,
    ) -> Result<()> {
        let rows = self.tables.iter().zip(tables).map(|(table, rows)| table.convert_columns(&rows.columns));
        let rows: Vec<Rows> = rows.collect::<Result<_, _>>().map_err(internal)?;
        let mut next = vec![0; rows.len()];
        for (at, key) in keys.enumerate() {
            entries.put(key, |bytes| {
                for ((rows, table), next) in rows.iter().zip(tables).zip(&mut next) {
                    let count = table.counts.get(at).copied().unwrap_or(0);
                    bytes.extend_from_slice(&count.to_le_bytes());
                    for _ in 0..count {
                        let row = rows.row(*next);
                        bytes.extend_from_slice(&(row.data().len() as u32).to_le_bytes());
                        bytes.extend_from_slice(row.data());
                        *next += 1;
                    }
                }
            });
        }
        Ok(())
    }

    /// The rows of all values, by table.
    pub(crate) fn unpack<'v>(&self, values: impl Iterator<Item = &'v [u8]>) -> Result<Vec<PackedRows>> {
        let mut rows: Vec<Vec<&[u8]>> = vec![Vec::new(); self.tables.len()];
        let mut counts: Vec<Vec<u32>> = vec![Vec::new(); self.tables.len()];
        for mut value in values {
            for (rows, counts) in rows.iter_mut().zip(&mut counts) {
                let count = take_u32(&mut value)?;
                counts.push(count);
                for _ in 0..count {
                    let length = take_u32(&mut value)? as usize;
                    let (row, rest) = value.split_at_checked(length).ok_or_else(too_short)?;
                    rows.push(row);
                    value = rest;
                }
            }
        }
        let tables = self.tables.iter().zip(rows).zip(counts);
        let tables = tables.map(|((table, rows), counts)| {
            let parser = table.parser();
            let columns = table.convert_rows(rows.into_iter().map(|row| parser.parse(row))).map_err(internal)?;
            Ok(PackedRows { columns, counts })
        });
        tables.collect()
    }
}

fn take_u32(value: &mut &[u8]) -> Result<u32> {
    let (number, rest) = value.split_first_chunk::<4>().ok_or_else(too_short)?;
    *value = rest;
    Ok(u32::from_le_bytes(*number))
}

fn too_short() -> Error {
    Error::internal("state that was put aside is too short")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};

    use super::*;

    #[test]
    fn rows_come_back_as_they_were() {
        let types = [vec![DataType::Int64], vec![DataType::Utf8, DataType::Int64]];
        let packer = Packer::new(&types).expect("types").expect("rows can be made of them");
        let texts: StringArray =
            [Some("a"), None, Some("long enough to be several blocks of a row"), Some("")].into_iter().collect();
        let numbers = Int64Array::from(vec![Some(1), Some(i64::MIN), None, Some(4)]);
        let tables = [
            PackedRows { columns: vec![Arc::new(Int64Array::from(vec![7, 8]))], counts: vec![1, 0, 1] },
            PackedRows { columns: vec![Arc::new(texts), Arc::new(numbers)], counts: vec![1, 3, 0] },
        ];
        let mut entries = Entries::default();
        packer.pack([b"x".as_slice(), b"", b"yz"].into_iter(), &tables, &mut entries).expect("packs");
        assert_eq!(entries.iter().map(|(key, _)| key).collect::<Vec<_>>(), [b"x".as_slice(), b"", b"yz"]);
        let again = packer.unpack(entries.iter().filter_map(|(_, value)| value)).expect("unpacks");
        for (table, again) in tables.iter().zip(&again) {
            assert_eq!((&table.columns, &table.counts), (&again.columns, &again.counts));
        }
        assert!(packer.unpack([[1_u8, 0, 0].as_slice()].into_iter()).is_err());
    }
}
