//! Rows taken apart: the decoder gets the values of their leaves as columns of their own, without names and nesting, and the
//! rows are put together of the columns it makes.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, NullBufferBuilder, RecordBatch, RecordBatchOptions, StructArray, new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;

/// The members of a row that is taken apart. A row in a list or a map is not: how many there are, each line says itself.
pub(super) fn members(data_type: &DataType) -> Option<&Fields> {
    match data_type {
        DataType::Struct(members) if !members.is_empty() => Some(members),
        _ => None,
    }
}

/// These columns without the members of rows that nobody reads: paths, the column first.
pub(super) fn without(columns: &Fields, unread: &[Vec<String>]) -> Fields {
    let kept = kept(columns, unread, &mut Vec::new());
    // Something has to be read of each column.
    let or_whole = |column: &FieldRef| kept.iter().find(|kept| kept.name() == column.name()).unwrap_or(column).clone();
    if unread.is_empty() { columns.clone() } else { columns.iter().map(or_whole).collect() }
}

fn kept<'a>(fields: &'a Fields, unread: &[Vec<String>], path: &mut Vec<&'a str>) -> Fields {
    let mut all = Vec::new();
    for field in fields {
        path.push(field.name());
        let rest = members(field.data_type()).map(|members| kept(members, unread, path));
        let is_read = match &rest {
            Some(rest) => !rest.is_empty(),
            None => !unread.iter().any(|unread| unread == path),
        };
        if is_read && let Some(rest) = rest {
            all.push(Arc::new(field.as_ref().clone().with_data_type(DataType::Struct(rest))));
        } else if is_read || !field.is_nullable() {
            all.push(Arc::clone(field));
        }
        path.pop();
    }
    all.into()
}

/// A column that was read [`without`] some of its members, as `wanted`: with NULL in their place.
///
/// # Errors
/// None, of what [`without`] leaves out.
pub(super) fn whole(array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, ArrowError> {
    let Some(members) = members(wanted).filter(|_| array.data_type() != wanted) else { return Ok(Arc::clone(array)) };
    let row = array.as_struct();
    let mut read = row.fields().iter().zip(row.columns()).peekable();
    let columns = members.iter().map(|member| match read.next_if(|(read, _)| read.name() == member.name()) {
        Some((_, column)) => whole(column, member.data_type()),
        None => Ok(new_null_array(member.data_type(), row.len())),
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let nulls = row.nulls().cloned();
    Ok(Arc::new(StructArray::try_new_with_length(members.clone(), columns, nulls, row.len())?))
}

/// What the columns of some lines have as leaves.
pub(super) struct Leaves {
    columns: SchemaRef,
    /// Numbered, as names may be of several rows.
    pub(super) schema: SchemaRef,
    /// Of the lines so far, by row: which are not NULL.
    rows: Vec<NullBufferBuilder>,
}

impl Leaves {
    pub(super) fn of(columns: &SchemaRef) -> Self {
        let (mut leaves, mut rows) = (Vec::new(), 0);
        for field in columns.fields() {
            take_apart(field, &mut leaves, &mut rows);
        }
        let numbered = leaves.iter().enumerate();
        let fields = numbered.map(|(number, leaf)| Field::new(number.to_string(), leaf.data_type().clone(), true));
        Self {
            columns: Arc::clone(columns),
            schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
            rows: (0..rows).map(|_| NullBufferBuilder::new(0)).collect(),
        }
    }

    /// One more line, and which of its rows are there.
    pub(super) fn push(&mut self, rows: &[bool]) {
        self.rows.iter_mut().zip(rows).for_each(|(all, is_there)| all.append(*is_there));
    }

    /// The lines are decoded by other means.
    pub(super) fn clear(&mut self) {
        self.rows.iter_mut().for_each(|all| *all = NullBufferBuilder::new(0));
    }

    /// The columns of all lines since the last time, of their leaves.
    ///
    /// # Errors
    /// NULL in a column that has none.
    pub(super) fn together(&mut self, leaves: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let nulls: Vec<Option<NullBuffer>> = self.rows.iter_mut().map(NullBufferBuilder::finish).collect();
        let (mut leaves_left, mut nulls) = (leaves.columns().iter(), nulls.into_iter());
        let columns = self.columns.fields().iter();
        let columns = columns.map(|field| together(field, leaves.num_rows(), &mut leaves_left, &mut nulls));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(leaves.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.columns), columns, &options)
    }
}

/// In the order in which `super::json_line` finds them.
fn take_apart(field: &FieldRef, leaves: &mut Vec<FieldRef>, rows: &mut usize) {
    match members(field.data_type()) {
        Some(members) => {
            *rows += 1;
            members.iter().for_each(|member| take_apart(member, leaves, rows));
        }
        None => leaves.push(Arc::clone(field)),
    }
}

fn together<'a>(
    field: &Field,
    lines: usize,
    leaves: &mut impl Iterator<Item = &'a ArrayRef>,
    nulls: &mut impl Iterator<Item = Option<NullBuffer>>,
) -> Result<ArrayRef, ArrowError> {
    let missing = || ArrowError::JsonError(format!("column `{}` was not decoded", field.name()));
    let Some(members) = members(field.data_type()) else {
        return leaves.next().map(Arc::clone).ok_or_else(missing);
    };
    let own = nulls.next().ok_or_else(missing)?;
    let columns = members.iter().map(|member| together(member, lines, leaves, nulls));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(StructArray::try_new_with_length(members.clone(), columns, own, lines)?))
}
