//! Which row groups need not be decoded: those whose statistics say that no row passes the pushed filter.
//!
//! A group is left out only if reading it could show nothing else: no value of a projected column may fail
//! to become the declared type, because a filter never hides a bad record (ADR 13, ADR 14). Statistics
//! that are missing, of the old kind, or of an order that nobody defined say nothing.

use ::parquet::arrow::arrow_reader::ArrowReaderMetadata;
use ::parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use ::parquet::basic::{ColumnOrder, Type};
use ::parquet::file::metadata::RowGroupMetaData;
use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, FieldRef};

use super::super::cast::{are_alike, conform, digits};
use super::super::columnar::Layout;
use super::super::reader::DecodeRequest;
use crate::predicate::{Bounds, PushedFilter};

/// What the statistics of one file say about the projected columns.
pub(super) struct Statistics<'a> {
    metadata: &'a ArrowReaderMetadata,
    columns: Vec<Column<'a>>,
}

struct Column<'a> {
    /// As the table declares it.
    declared: FieldRef,
    /// Every value of the file's type is one of the declared type.
    is_total: bool,
    /// None: a nested column, which has no statistics of its own.
    leaf: Option<(usize, StatisticsConverter<'a>)>,
    /// Least and greatest value mean what their names say.
    has_order: bool,
}

impl<'a> Statistics<'a> {
    pub(super) fn new(metadata: &'a ArrowReaderMetadata, layout: &Layout, request: &DecodeRequest) -> Self {
        let schema = metadata.parquet_schema();
        let file = metadata.metadata().file_metadata();
        let output = request.output();
        let columns = layout.file_columns().zip(output.fields()).map(|(root, declared)| {
            let found = metadata.schema().field(root);
            let leaves: Vec<usize> =
                (0..schema.num_columns()).filter(|leaf| schema.get_column_root_idx(*leaf) == root).collect();
            let leaf = match leaves.as_slice() {
                [leaf] if schema.get_column_root(*leaf).is_primitive() => Some(*leaf),
                _ => None,
            };
            let has_order = leaf.is_some_and(|leaf| {
                let is_int96 = schema.column(leaf).physical_type() == Type::INT96;
                let is_defined = file.column_order(leaf) != ColumnOrder::UNDEFINED;
                !is_int96 && (is_defined || is_of_natural_order(found.data_type()))
            });
            let converter = leaf.and_then(|leaf| {
                let converter = StatisticsConverter::from_column_index(leaf, found, schema).ok()?;
                // Of a count that is not there we know nothing.
                Some((leaf, converter.with_missing_null_counts_as_zero(false)))
            });
            Column {
                is_total: is_total(found.data_type(), declared.data_type()),
                declared: declared.clone(),
                leaf: converter,
                has_order,
            }
        });
        Self { metadata, columns: columns.collect() }
    }

    /// Whether nothing in a row group needs to be decoded.
    pub(super) fn rule_out(&self, group: usize, filter: &PushedFilter) -> bool {
        let Some(group) = self.metadata.metadata().row_groups().get(group) else { return false };
        let bounds = |column: usize| self.columns.get(column).map_or(Bounds::UNKNOWN, |column| column.bounds(group));
        !filter.predicate.can_pass(&bounds) && self.columns.iter().all(|column| column.is_good(group))
    }
}

impl Column<'_> {
    /// Of the values as the table declares them.
    fn bounds(&self, group: &RowGroupMetaData) -> Bounds {
        let Some((leaf, converter)) = &self.leaf else { return Bounds::UNKNOWN };
        let Some(statistics) = group.column(*leaf).statistics() else { return Bounds::UNKNOWN };
        let nulls = statistics.null_count_opt();
        let rows = u64::try_from(group.num_rows()).ok();
        let is_usable = self.has_order && !statistics.is_min_max_deprecated();
        let bound = |found: Result<ArrayRef, _>| {
            let found = found.ok().filter(|array| is_usable && array.len() == 1 && array.is_valid(0))?;
            conform(&found, self.declared.data_type()).ok().filter(|array| array.is_valid(0))
        };
        Bounds {
            min: bound(converter.row_group_mins([group])),
            max: bound(converter.row_group_maxes([group])),
            can_be_null: nulls != Some(0),
            has_values: nulls.is_none() || nulls != rows,
        }
    }

    /// Whether every value in the group is one of the declared column.
    fn is_good(&self, group: &RowGroupMetaData) -> bool {
        if self.is_total && self.declared.is_nullable() {
            return true;
        }
        let bounds = self.bounds(group);
        // Conversions keep the order of values: what lies between two that fit, fits.
        let fits = self.is_total || !bounds.has_values || (bounds.min.is_some() && bounds.max.is_some());
        fits && (self.declared.is_nullable() || !bounds.can_be_null)
    }
}

/// Types of one order, which every writer has meant.
fn is_of_natural_order(data_type: &DataType) -> bool {
    data_type.is_signed_integer()
        || data_type.is_floating()
        || matches!(
            data_type,
            DataType::Boolean
                | DataType::Date32
                | DataType::Time32(_)
                | DataType::Time64(_)
                | DataType::Timestamp(_, _)
        )
}

/// Whether `conform` makes a value of `wanted` of every value of `found`.
fn is_total(found: &DataType, wanted: &DataType) -> bool {
    use DataType as T;
    if are_alike(found, wanted) {
        return true;
    }
    match (found, wanted) {
        (T::Null, _) => true,
        (T::Dictionary(_, values), _) => is_total(values, wanted),
        (T::Timestamp(from, _), T::Timestamp(to, _)) => digits(*from) >= digits(*to),
        (T::Date32, T::Timestamp(to, _)) => digits(*to) <= 3,
        (T::Float16, T::Float32 | T::Float64) | (T::Float32, T::Float64) => true,
        (from, to) if from.is_integer() && to.is_integer() => {
            let (from_bits, to_bits) = (from.primitive_width(), to.primitive_width());
            match (from.is_signed_integer(), to.is_signed_integer()) {
                (true, true) | (false, false) => from_bits <= to_bits,
                (false, true) => from_bits < to_bits,
                (true, false) => false,
            }
        }
        (T::List(from) | T::LargeList(from) | T::FixedSizeList(from, _), T::List(to)) => is_total_field(from, to),
        (T::Struct(from), T::Struct(to)) => {
            to.iter().all(|to| from.iter().any(|from| from.name() == to.name() && is_total_field(from, to)))
        }
        (T::Map(from, _), T::Map(to, _)) => match (from.data_type(), to.data_type()) {
            (T::Struct(from), T::Struct(to)) => {
                from.len() == to.len() && from.iter().zip(to).all(|(from, to)| is_total_field(from, to))
            }
            _ => false,
        },
        _ => false,
    }
}

fn is_total_field(from: &FieldRef, to: &FieldRef) -> bool {
    is_total(from.data_type(), to.data_type()) && (to.is_nullable() || !from.is_nullable())
}
