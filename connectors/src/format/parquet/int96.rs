//! INT96, the timestamps of Hive, Impala, Spark and Flink: a day and the nanoseconds in it. The arrow crate makes
//! nanoseconds since 1970 of them, which wrap round before 1677 and after 2262; of files with `9999-12-31` in them
//! microseconds are read.

use std::sync::Arc;

use ::parquet::arrow::arrow_reader::ArrowReaderMetadata;
use ::parquet::basic::Type;
use ::parquet::schema::types::SchemaDescriptor;
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef, TimeUnit};

/// The schema of a file with microseconds for INT96, except in columns that are declared with nanoseconds. None: it
/// has none.
pub(super) fn schema(metadata: &ArrowReaderMetadata, declared: &Schema) -> Option<SchemaRef> {
    let columns = metadata.metadata().file_metadata().schema_descr();
    if !columns.columns().iter().any(|column| column.physical_type() == Type::INT96) {
        return None;
    }
    let mut leaf = 0;
    let fields = metadata.schema().fields().iter().map(|field| {
        let declared = declared.fields().iter().find(|wanted| wanted.name().eq_ignore_ascii_case(field.name()));
        let is_fine = declared.is_some_and(|wanted| has_nanoseconds(wanted.data_type()));
        coarser(field, columns, &mut leaf, is_fine)
    });
    let fields: Vec<FieldRef> = fields.collect();
    // Leaves are counted as the file counts them, or nothing is known of them.
    (leaf == columns.num_columns())
        .then(|| Arc::new(Schema::new_with_metadata(fields, metadata.schema().metadata().clone())))
}

fn coarser(field: &FieldRef, columns: &SchemaDescriptor, leaf: &mut usize, is_fine: bool) -> FieldRef {
    let mut inner = |field: &FieldRef| coarser(field, columns, leaf, is_fine);
    let data_type = match field.data_type() {
        DataType::List(item) => DataType::List(inner(item)),
        DataType::LargeList(item) => DataType::LargeList(inner(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(inner(item), *size),
        DataType::Map(entries, sorted) => DataType::Map(inner(entries), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect()),
        other => {
            let is_int96 = *leaf < columns.num_columns() && columns.column(*leaf).physical_type() == Type::INT96;
            *leaf += 1;
            match other {
                DataType::Timestamp(TimeUnit::Nanosecond, zone) if is_int96 && !is_fine => {
                    DataType::Timestamp(TimeUnit::Microsecond, zone.clone())
                }
                other => other.clone(),
            }
        }
    };
    Arc::new(field.as_ref().clone().with_data_type(data_type))
}

fn has_nanoseconds(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(field) | DataType::Map(field, _) => has_nanoseconds(field.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_nanoseconds(field.data_type())),
        other => matches!(other, DataType::Timestamp(TimeUnit::Nanosecond, _)),
    }
}
