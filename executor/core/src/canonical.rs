//! The canonical encoding of rows: the bytes that key hashes and row hashes are taken over.
//!
//! Equal values give equal bytes, whatever array holds them: plain, large, view, dictionary and
//! run-encoded arrays, integers of any width, floats of any width, timestamps of any unit. The bytes
//! never depend on column names, only on values and on the order of the columns. The encoding is
//! documented in `docs/receipts.md` and is part of the format of saved state: it must never change,
//! because state written by one version is found again by the key group that another computes.
//!
//! Called by [`crate::partition`] and [`crate::receipt`]. Works column by column over blocks of rows
//! and allocates per block at most, never per row. Tests stand with those two.

use arrow::array::cast::AsArray;
use arrow::array::types::{
    ArrowPrimitiveType, ByteArrayType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type,
    Decimal256Type, DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType,
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, IntervalDayTimeType,
    IntervalMonthDayNanoType, IntervalYearMonthType, RunEndIndexType, Time32MillisecondType, Time32SecondType,
    Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, GenericByteArray, RunArray, UInt64Array, new_empty_array};
use arrow::compute::take;
use arrow::datatypes::{ArrowNativeType, DataType, IntervalUnit, TimeUnit};
use qanat_proto::error::{Code, Error, Result};

/// First byte of each value. Part of the format.
mod tag {
    pub(super) const NULL: u8 = 0x00;
    pub(super) const BOOLEAN: u8 = 0x01;
    pub(super) const INTEGER: u8 = 0x02;
    pub(super) const INTEGER_ABOVE_I64: u8 = 0x03;
    pub(super) const FLOAT: u8 = 0x04;
    pub(super) const DECIMAL: u8 = 0x05;
    pub(super) const DECIMAL_256: u8 = 0x06;
    pub(super) const TEXT: u8 = 0x07;
    pub(super) const BINARY: u8 = 0x08;
    pub(super) const DATE: u8 = 0x09;
    pub(super) const TIME: u8 = 0x0a;
    pub(super) const TIMESTAMP: u8 = 0x0b;
    pub(super) const DURATION: u8 = 0x0c;
    pub(super) const INTERVAL: u8 = 0x0d;
    pub(super) const LIST: u8 = 0x0e;
    pub(super) const STRUCT: u8 = 0x0f;
    pub(super) const MAP: u8 = 0x10;
}

/// Bytes before the content of a text, binary, list, struct or map: tag and u32 length or count.
const HEADER: usize = 5;

/// Bytes of an integer: tag and value.
pub(crate) const INTEGER: usize = 9;

/// Rows that are encoded at a time: few enough for their bytes to stay in the first cache until they are hashed. Columns
/// with columns inside cost something for each block.
const BLOCK_ROWS: usize = 128;
const NESTED_BLOCK_ROWS: usize = 1_024;

/// Encodes rows into buffers that it keeps for the next call.
#[derive(Debug, Default)]
pub struct RowEncoder {
    bytes: Vec<u8>,
    /// Of each row of the block, where its next value goes in `bytes`; in the end, its end.
    cursors: Vec<usize>,
}

impl RowEncoder {
    /// Calls `each` once per row, in order, with the canonical bytes of its columns.
    ///
    /// # Errors
    /// E0102 for a column of a type without an encoding ([`check_type`]).
    ///
    /// # Panics
    /// If a column has fewer than `rows` rows.
    pub fn for_each_row(&mut self, columns: &[ArrayRef], rows: usize, mut each: impl FnMut(&[u8])) -> Result<()> {
        let columns = columns.iter().map(plain).collect::<Result<Vec<_>>>()?;
        let fixed = columns.iter().filter_map(same_length).sum();
        let varying: Vec<&ArrayRef> = columns.iter().filter(|column| same_length(column).is_none()).collect();
        let is_nested = columns.iter().any(|column| column.data_type().is_nested());
        let block = if is_nested { NESTED_BLOCK_ROWS } else { BLOCK_ROWS };
        for first in (0..rows).step_by(block) {
            self.cursors.clear();
            self.cursors.resize(block.min(rows - first), fixed);
            for column in &varying {
                add_lengths(column, first, &mut self.cursors)?;
            }
            let mut end = 0;
            for cursor in &mut self.cursors {
                end += std::mem::replace(cursor, end);
            }
            self.bytes.resize(end, 0);
            for column in &columns {
                write(column, first, &mut self.cursors, &mut self.bytes)?;
            }
            let mut start = 0;
            for end in &self.cursors {
                each(&self.bytes[start..*end]);
                start = *end;
            }
        }
        Ok(())
    }
}

/// Whether values of this type have a canonical encoding. All types do but unions.
///
/// # Errors
/// E0102 naming the type.
pub fn check_type(data_type: &DataType) -> Result<()> {
    match data_type {
        DataType::Union(_, _) => Err(unsupported(data_type)),
        DataType::Dictionary(_, values) => check_type(values),
        DataType::RunEndEncoded(_, field)
        | DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => check_type(field.data_type()),
        DataType::Struct(fields) => fields.iter().try_for_each(|field| check_type(field.data_type())),
        _ => Ok(()),
    }
}

fn unsupported(data_type: &DataType) -> Error {
    Error::new(Code::SqlUnsupported, format!("values of type {data_type} cannot be hashed"))
}

fn arrow_error(error: arrow::error::ArrowError) -> Error {
    Error::internal(format!("could not gather values to encode: {error}"))
}

/// Replaces a dictionary or run-encoded array by its values.
fn plain(array: &ArrayRef) -> Result<ArrayRef> {
    match array.data_type() {
        DataType::Dictionary(_, _) => {
            let dictionary = array.as_any_dictionary();
            let values = take(dictionary.values(), dictionary.keys(), None).map_err(arrow_error)?;
            plain(&values)
        }
        DataType::RunEndEncoded(ends, _) => match ends.data_type() {
            DataType::Int16 => plain_run::<Int16Type>(array),
            DataType::Int32 => plain_run::<Int32Type>(array),
            _ => plain_run::<Int64Type>(array),
        },
        _ => Ok(array.clone()),
    }
}

fn plain_run<R: RunEndIndexType>(array: &ArrayRef) -> Result<ArrayRef> {
    let run = array.as_any().downcast_ref::<RunArray<R>>().ok_or_else(|| unsupported(array.data_type()))?;
    let physical = UInt64Array::from_iter_values((0..run.len()).map(|row| run.get_physical_index(row) as u64));
    let values = take(run.values(), &physical, None).map_err(arrow_error)?;
    plain(&values)
}

/// Encoded length of a value that is not null, for types where all values have the same.
fn fixed_length(data_type: &DataType) -> Option<usize> {
    Some(match data_type {
        DataType::Boolean => 2,
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Float16
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32
        | DataType::Date64
        | DataType::Time32(_)
        | DataType::Time64(_) => 9,
        DataType::Timestamp(_, _) | DataType::Duration(_) => 13,
        DataType::Interval(_) => 17,
        DataType::Decimal32(_, _) | DataType::Decimal64(_, _) | DataType::Decimal128(_, _) => 18,
        DataType::Decimal256(_, _) => 34,
        DataType::FixedSizeBinary(width) => HEADER + usize::try_from(*width).unwrap_or(0),
        _ => return None,
    })
}

/// Encoded length of every value, if all have the same.
fn same_length(array: &ArrayRef) -> Option<usize> {
    fixed_length(array.data_type()).filter(|_| array.null_count() == 0)
}

/// Adds to each entry of `lengths` the encoded length of the value in that row, counted from `first`.
fn add_lengths(array: &ArrayRef, first: usize, lengths: &mut [usize]) -> Result<()> {
    if let Some(length) = fixed_length(array.data_type()) {
        for_each_valid(array, first, lengths, |total, _| *total += length, |total| *total += 1);
        return Ok(());
    }
    let null = |total: &mut usize| *total += 1;
    match array.data_type() {
        DataType::Null => lengths.iter_mut().for_each(null),
        DataType::Utf8 => add_bytes_lengths(array.as_string::<i32>(), first, lengths),
        DataType::LargeUtf8 => add_bytes_lengths(array.as_string::<i64>(), first, lengths),
        DataType::Utf8View => {
            let array = array.as_string_view();
            for_each_valid(array, first, lengths, |total, row| *total += HEADER + array.value(row).len(), null);
        }
        DataType::Binary => add_bytes_lengths(array.as_binary::<i32>(), first, lengths),
        DataType::LargeBinary => add_bytes_lengths(array.as_binary::<i64>(), first, lengths),
        DataType::BinaryView => {
            let array = array.as_binary_view();
            for_each_valid(array, first, lengths, |total, row| *total += HEADER + array.value(row).len(), null);
        }
        DataType::Struct(_) => {
            let (valid, children) = struct_children(&array.slice(first, lengths.len()))?;
            let mut inner = vec![HEADER; valid.len()];
            for child in &children {
                add_lengths(child, 0, &mut inner)?;
            }
            lengths.iter_mut().for_each(|total| *total += 1);
            for (row, length) in valid.into_iter().zip(inner) {
                lengths[row] += length - 1;
            }
        }
        _ => {
            let list = Elements::of(&array.slice(first, lengths.len()))?;
            let mut inner = vec![0; list.child_rows()];
            for child in &list.children {
                add_lengths(child, 0, &mut inner)?;
            }
            let mut inner = inner.into_iter();
            for (total, count) in lengths.iter_mut().zip(&list.counts) {
                *total += match count {
                    Some(count) => HEADER + inner.by_ref().take(*count).sum::<usize>(),
                    None => 1,
                };
            }
        }
    }
    Ok(())
}

/// Writes each value at its row's cursor and moves the cursor behind it. Rows are counted from `first`.
fn write(array: &ArrayRef, first: usize, cursors: &mut [usize], out: &mut [u8]) -> Result<()> {
    macro_rules! fixed {
        ($type:ty, $encode:expr) => {
            write_primitive::<$type, _>(array, first, cursors, out, $encode)
        };
    }
    match array.data_type() {
        DataType::Null => cursors.iter_mut().for_each(|cursor| put(out, cursor, &[tag::NULL])),
        DataType::Boolean => {
            let values = array.as_boolean();
            write_rows(array, first, cursors, out, |row| [tag::BOOLEAN, u8::from(values.value(row))]);
        }
        DataType::Int8 => fixed!(Int8Type, |v| tagged(tag::INTEGER, i64::from(v))),
        DataType::Int16 => fixed!(Int16Type, |v| tagged(tag::INTEGER, i64::from(v))),
        DataType::Int32 => fixed!(Int32Type, |v| tagged(tag::INTEGER, i64::from(v))),
        DataType::Int64 => fixed!(Int64Type, integer),
        DataType::UInt8 => fixed!(UInt8Type, |v| tagged(tag::INTEGER, i64::from(v))),
        DataType::UInt16 => fixed!(UInt16Type, |v| tagged(tag::INTEGER, i64::from(v))),
        DataType::UInt32 => fixed!(UInt32Type, |v| tagged(tag::INTEGER, i64::from(v))),
        DataType::UInt64 => fixed!(UInt64Type, |v| match i64::try_from(v) {
            Ok(small) => tagged(tag::INTEGER, small),
            Err(_) => tagged(tag::INTEGER_ABOVE_I64, v.cast_signed()),
        }),
        DataType::Float16 => fixed!(Float16Type, |v| float(v.to_f64())),
        DataType::Float32 => fixed!(Float32Type, |v| float(f64::from(v))),
        DataType::Float64 => fixed!(Float64Type, float),
        DataType::Decimal32(_, scale) => fixed!(Decimal32Type, |v| decimal(*scale, i128::from(v))),
        DataType::Decimal64(_, scale) => fixed!(Decimal64Type, |v| decimal(*scale, i128::from(v))),
        DataType::Decimal128(_, scale) => fixed!(Decimal128Type, |v| decimal(*scale, v)),
        DataType::Decimal256(_, scale) => fixed!(Decimal256Type, |v| {
            let mut bytes = [0; 34];
            bytes[0] = tag::DECIMAL_256;
            bytes[1] = scale.cast_unsigned();
            bytes[2..].copy_from_slice(&v.to_le_bytes());
            bytes
        }),
        DataType::Date32 => fixed!(Date32Type, |v| tagged(tag::DATE, i64::from(v))),
        DataType::Date64 => fixed!(Date64Type, |v| tagged(tag::DATE, v.div_euclid(86_400_000))),
        DataType::Time32(TimeUnit::Second) => fixed!(Time32SecondType, |v| time(i64::from(v), 1_000_000_000)),
        DataType::Time32(_) => fixed!(Time32MillisecondType, |v| time(i64::from(v), 1_000_000)),
        DataType::Time64(TimeUnit::Microsecond) => fixed!(Time64MicrosecondType, |v| time(v, 1_000)),
        DataType::Time64(_) => fixed!(Time64NanosecondType, |v| time(v, 1)),
        DataType::Timestamp(unit, _) => match unit {
            TimeUnit::Second => fixed!(TimestampSecondType, |v| instant::<1>(tag::TIMESTAMP, v)),
            TimeUnit::Millisecond => fixed!(TimestampMillisecondType, |v| instant::<1_000>(tag::TIMESTAMP, v)),
            TimeUnit::Microsecond => fixed!(TimestampMicrosecondType, |v| instant::<1_000_000>(tag::TIMESTAMP, v)),
            TimeUnit::Nanosecond => fixed!(TimestampNanosecondType, |v| instant::<1_000_000_000>(tag::TIMESTAMP, v)),
        },
        DataType::Duration(unit) => match unit {
            TimeUnit::Second => fixed!(DurationSecondType, |v| instant::<1>(tag::DURATION, v)),
            TimeUnit::Millisecond => fixed!(DurationMillisecondType, |v| instant::<1_000>(tag::DURATION, v)),
            TimeUnit::Microsecond => fixed!(DurationMicrosecondType, |v| instant::<1_000_000>(tag::DURATION, v)),
            TimeUnit::Nanosecond => fixed!(DurationNanosecondType, |v| instant::<1_000_000_000>(tag::DURATION, v)),
        },
        DataType::Interval(unit) => match unit {
            IntervalUnit::YearMonth => fixed!(IntervalYearMonthType, |v| interval(v, 0, 0)),
            IntervalUnit::DayTime => {
                fixed!(IntervalDayTimeType, |v| interval(0, v.days, i64::from(v.milliseconds) * 1_000_000))
            }
            IntervalUnit::MonthDayNano => {
                fixed!(IntervalMonthDayNanoType, |v| interval(v.months, v.days, v.nanoseconds))
            }
        },
        DataType::Utf8 => write_array(array.as_string::<i32>(), first, cursors, out, tag::TEXT),
        DataType::LargeUtf8 => write_array(array.as_string::<i64>(), first, cursors, out, tag::TEXT),
        DataType::Utf8View => {
            let values = array.as_string_view();
            write_bytes(array, first, cursors, out, tag::TEXT, |row| values.value(row).as_bytes());
        }
        DataType::Binary => write_array(array.as_binary::<i32>(), first, cursors, out, tag::BINARY),
        DataType::LargeBinary => write_array(array.as_binary::<i64>(), first, cursors, out, tag::BINARY),
        DataType::BinaryView => {
            let values = array.as_binary_view();
            write_bytes(array, first, cursors, out, tag::BINARY, |row| values.value(row));
        }
        DataType::FixedSizeBinary(_) => {
            let values = array.as_fixed_size_binary();
            write_bytes(array, first, cursors, out, tag::BINARY, |row| values.value(row));
        }
        DataType::Struct(fields) => {
            let (valid, children) = struct_children(&array.slice(first, cursors.len()))?;
            let header = header(tag::STRUCT, fields.len());
            let mut inner = Vec::with_capacity(valid.len());
            let mut next = valid.iter().copied().peekable();
            for (row, cursor) in cursors.iter_mut().enumerate() {
                if next.next_if_eq(&row).is_some() {
                    put(out, cursor, &header);
                    inner.push(*cursor);
                } else {
                    put(out, cursor, &[tag::NULL]);
                }
            }
            for child in &children {
                write(child, 0, &mut inner, out)?;
            }
            for (row, cursor) in valid.into_iter().zip(inner) {
                cursors[row] = cursor;
            }
        }
        _ => write_list(&array.slice(first, cursors.len()), cursors, out)?,
    }
    Ok(())
}

/// Writes a list or map: its header, then its elements one behind the other.
fn write_list(array: &ArrayRef, cursors: &mut [usize], out: &mut [u8]) -> Result<()> {
    let list = Elements::of(array)?;
    let mut lengths = vec![0; list.child_rows()];
    for child in &list.children {
        add_lengths(child, 0, &mut lengths)?;
    }
    // Turn the lengths of the elements into their cursors.
    let mut inner = lengths;
    let mut elements = inner.iter_mut();
    for (cursor, count) in cursors.iter_mut().zip(&list.counts) {
        match count {
            None => put(out, cursor, &[tag::NULL]),
            Some(count) => {
                put(out, cursor, &header(list.tag, *count));
                for element in elements.by_ref().take(*count) {
                    *cursor += std::mem::replace(element, *cursor);
                }
            }
        }
    }
    for child in &list.children {
        write(child, 0, &mut inner, out)?;
    }
    Ok(())
}

/// The elements of a list-like array, gathered so that they stand in row order without gaps.
struct Elements {
    tag: u8,
    /// Elements of each row; None for a null.
    counts: Vec<Option<usize>>,
    /// One array of elements; keys and values of a map.
    children: Vec<ArrayRef>,
}

impl Elements {
    fn child_rows(&self) -> usize {
        self.children.first().map_or(0, |child| child.len())
    }

    fn of(array: &ArrayRef) -> Result<Self> {
        // (start, end) of each row in the child arrays.
        let range: Box<dyn Fn(usize) -> (usize, usize)>;
        let (tag, children) = match array.data_type() {
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                let offsets = list.value_offsets();
                range = Box::new(|row| (offsets[row] as usize, offsets[row + 1] as usize));
                (tag::LIST, vec![list.values().clone()])
            }
            DataType::LargeList(_) => {
                let list = array.as_list::<i64>();
                let offsets = list.value_offsets();
                range = Box::new(|row| (offsets[row] as usize, offsets[row + 1] as usize));
                (tag::LIST, vec![list.values().clone()])
            }
            DataType::ListView(_) => {
                let list = array.as_list_view::<i32>();
                let (starts, sizes) = (list.value_offsets(), list.value_sizes());
                range = Box::new(|row| (starts[row] as usize, (starts[row] + sizes[row]) as usize));
                (tag::LIST, vec![list.values().clone()])
            }
            DataType::LargeListView(_) => {
                let list = array.as_list_view::<i64>();
                let (starts, sizes) = (list.value_offsets(), list.value_sizes());
                range = Box::new(|row| (starts[row] as usize, (starts[row] + sizes[row]) as usize));
                (tag::LIST, vec![list.values().clone()])
            }
            DataType::FixedSizeList(_, _) => {
                let list = array.as_fixed_size_list();
                let width = list.value_length() as usize;
                range = Box::new(move |row| (row * width, (row + 1) * width));
                (tag::LIST, vec![list.values().clone()])
            }
            DataType::Map(_, _) => {
                let map = array.as_map();
                let offsets = map.value_offsets();
                range = Box::new(|row| (offsets[row] as usize, offsets[row + 1] as usize));
                (tag::MAP, vec![map.keys().clone(), map.values().clone()])
            }
            other => return Err(unsupported(other)),
        };
        let mut counts = Vec::with_capacity(array.len());
        let mut indexes = Vec::new();
        for row in 0..array.len() {
            if array.is_null(row) {
                counts.push(None);
                continue;
            }
            let (start, end) = range(row);
            counts.push(Some(end - start));
            indexes.extend((start..end).map(|index| index as u64));
        }
        let indexes = UInt64Array::from(indexes);
        let children = children
            .iter()
            .map(|child| {
                if indexes.is_empty() {
                    return plain(&new_empty_array(child.data_type()));
                }
                plain(&take(child, &indexes, None).map_err(arrow_error)?)
            })
            .collect::<Result<_>>()?;
        drop(range);
        Ok(Self { tag, counts, children })
    }
}

/// Rows of a struct array that are not null, and its fields at those rows.
fn struct_children(array: &ArrayRef) -> Result<(Vec<usize>, Vec<ArrayRef>)> {
    let columns = array.as_struct().columns();
    if array.null_count() == 0 {
        let children = columns.iter().map(plain).collect::<Result<_>>()?;
        return Ok(((0..array.len()).collect(), children));
    }
    let valid: Vec<usize> = (0..array.len()).filter(|row| array.is_valid(*row)).collect();
    let indexes = UInt64Array::from_iter_values(valid.iter().map(|row| *row as u64));
    let children =
        columns.iter().map(|c| plain(&take(c, &indexes, None).map_err(arrow_error)?)).collect::<Result<_>>()?;
    Ok((valid, children))
}

fn for_each_valid(
    array: &dyn Array,
    first: usize,
    per_row: &mut [usize],
    mut valid: impl FnMut(&mut usize, usize),
    mut null: impl FnMut(&mut usize),
) {
    match array.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => per_row.iter_mut().enumerate().for_each(|(row, entry)| valid(entry, first + row)),
        Some(nulls) => {
            let nulls = nulls.slice(first, per_row.len());
            per_row
                .iter_mut()
                .enumerate()
                .for_each(|(row, entry)| if nulls.is_valid(row) { valid(entry, first + row) } else { null(entry) });
        }
    }
}

/// [`add_lengths`] of text or binary.
fn add_bytes_lengths<T: ByteArrayType>(array: &GenericByteArray<T>, first: usize, lengths: &mut [usize]) {
    let offsets = array.value_offsets().windows(2).skip(first);
    let length = |ends: &[T::Offset]| match ends {
        &[start, end] => HEADER + (end - start).as_usize(),
        _ => HEADER,
    };
    match array.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => lengths.iter_mut().zip(offsets).for_each(|(total, ends)| *total += length(ends)),
        Some(nulls) => lengths.iter_mut().zip(offsets).zip(first..).for_each(|((total, ends), row)| {
            *total += if nulls.is_valid(row) { length(ends) } else { 1 };
        }),
    }
}

fn put(out: &mut [u8], cursor: &mut usize, bytes: &[u8]) {
    let end = *cursor + bytes.len();
    out[*cursor..end].copy_from_slice(bytes);
    *cursor = end;
}

fn write_rows<const N: usize>(
    array: &dyn Array,
    first: usize,
    cursors: &mut [usize],
    out: &mut [u8],
    value: impl Fn(usize) -> [u8; N],
) {
    match array.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => cursors.iter_mut().enumerate().for_each(|(row, cursor)| put(out, cursor, &value(first + row))),
        Some(nulls) => {
            let nulls = nulls.slice(first, cursors.len());
            cursors.iter_mut().enumerate().for_each(|(row, cursor)| {
                if nulls.is_valid(row) { put(out, cursor, &value(first + row)) } else { put(out, cursor, &[tag::NULL]) }
            });
        }
    }
}

fn write_primitive<T: ArrowPrimitiveType, const N: usize>(
    array: &ArrayRef,
    first: usize,
    cursors: &mut [usize],
    out: &mut [u8],
    encode: impl Fn(T::Native) -> [u8; N],
) {
    let values = array.as_primitive::<T>().values();
    write_rows(array, first, cursors, out, |row| encode(values[row]));
}

/// [`write_bytes`] of values that lie one behind the other.
fn write_array<T: ByteArrayType>(
    array: &GenericByteArray<T>,
    first: usize,
    cursors: &mut [usize],
    out: &mut [u8],
    tag: u8,
) {
    let values = array.values().as_slice();
    let offsets = array.value_offsets().windows(2).skip(first);
    let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0);
    for ((cursor, ends), row) in cursors.iter_mut().zip(offsets).zip(first..) {
        match ends {
            &[start, end] if nulls.is_none_or(|nulls| nulls.is_valid(row)) => {
                let value = &values[start.as_usize()..end.as_usize()];
                let end = *cursor + HEADER + value.len();
                let (head, body) = out[*cursor..end].split_at_mut(HEADER);
                head.copy_from_slice(&header(tag, value.len()));
                body.copy_from_slice(value);
                *cursor = end;
            }
            _ => put(out, cursor, &[tag::NULL]),
        }
    }
}

fn write_bytes<'a>(
    array: &dyn Array,
    first: usize,
    cursors: &mut [usize],
    out: &mut [u8],
    tag: u8,
    value: impl Fn(usize) -> &'a [u8],
) {
    let nulls = array.nulls();
    for (cursor, row) in cursors.iter_mut().zip(first..) {
        if nulls.is_some_and(|nulls| nulls.is_null(row)) {
            put(out, cursor, &[tag::NULL]);
        } else {
            let value = value(row);
            put(out, cursor, &header(tag, value.len()));
            put(out, cursor, value);
        }
    }
}

/// Tag and length. Values never reach 4 GiB: a record is at most `RECORD_BYTES_MAX`.
fn header(tag: u8, length: usize) -> [u8; HEADER] {
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    [tag, a, b, c, d]
}

fn tagged(tag: u8, value: i64) -> [u8; 9] {
    let mut bytes = [tag; 9];
    bytes[1..].copy_from_slice(&value.to_le_bytes());
    bytes
}

/// Canonical bytes of an integer.
pub(crate) fn integer(value: i64) -> [u8; INTEGER] {
    tagged(tag::INTEGER, value)
}

fn float(value: f64) -> [u8; 9] {
    // One NaN, one zero: values that SQL holds equal must find the same key group.
    let value = if value.is_nan() {
        0x7ff8_0000_0000_0000
    } else if value.is_zero() {
        0
    } else {
        value.to_bits()
    };
    tagged(tag::FLOAT, value.cast_signed())
}

fn decimal(scale: i8, value: i128) -> [u8; 18] {
    let mut bytes = [0; 18];
    bytes[0] = tag::DECIMAL;
    bytes[1] = scale.cast_unsigned();
    bytes[2..].copy_from_slice(&value.to_le_bytes());
    bytes
}

fn time(value: i64, nanoseconds: i64) -> [u8; 9] {
    tagged(tag::TIME, value.wrapping_mul(nanoseconds))
}

/// Whole seconds (rounded down) and nanoseconds: the same for every unit.
fn instant<const PER_SECOND: i64>(tag: u8, value: i64) -> [u8; 13] {
    let seconds = value.div_euclid(PER_SECOND);
    let nanoseconds = value.rem_euclid(PER_SECOND) * (1_000_000_000 / PER_SECOND);
    let mut bytes = [0; 13];
    bytes[0] = tag;
    bytes[1..9].copy_from_slice(&seconds.to_le_bytes());
    bytes[9..].copy_from_slice(&(nanoseconds as u32).to_le_bytes());
    bytes
}

fn interval(months: i32, days: i32, nanoseconds: i64) -> [u8; 17] {
    let mut bytes = [0; 17];
    bytes[0] = tag::INTERVAL;
    bytes[1..5].copy_from_slice(&months.to_le_bytes());
    bytes[5..9].copy_from_slice(&days.to_le_bytes());
    bytes[9..].copy_from_slice(&nanoseconds.to_le_bytes());
    bytes
}
