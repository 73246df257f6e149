//! One made-up column: values as a function of row numbers.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, AsArray, BinaryBuilder, BooleanArray, ListArray, MapArray, PrimitiveArray,
    StringBuilder, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, FieldRef, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time64NanosecondType, TimeUnit, TimestampMillisecondType,
};
use qanat_proto::error::{Code, Error, Place, Result};

use crate::format::reader::type_name;
use crate::generator::{below, mix, unit};
use crate::options::Options;

const DAY_MS: i64 = 86_400_000;
/// Distinguishes the stream of nulls from the stream of values.
const NULL_STREAM: u64 = 1 << 32;

#[derive(Clone)]
pub(super) struct Column {
    data_type: DataType,
    kind: Kind,
    seed: u64,
    stream: u64,
    null_rate: f64,
    /// Milliseconds of event time between two rows.
    row_ms: f64,
}

#[derive(Clone)]
enum Kind {
    Sequence {
        start: i64,
        end: Option<i64>,
    },
    Integer {
        min: i64,
        max: i64,
    },
    Float {
        min: f64,
        max: f64,
    },
    Boolean,
    Text {
        length: usize,
    },
    Bytes {
        length: usize,
    },
    Time {
        max_past_ms: u64,
    },
    /// Lists and maps of `length` elements; a map's elements are rows of key and value.
    List {
        length: u64,
        element: Box<Column>,
    },
    Row(Vec<Column>),
}

impl Column {
    /// `rows_per_second` sets how event time moves on from row to row.
    pub(super) fn of(
        options: &Options<'_>,
        field: &FieldRef,
        seed: u64,
        stream: u64,
        rows_per_second: f64,
    ) -> Result<Self> {
        let key = |what: &str| {
            let wanted = format!("fields.{}.{what}", field.name());
            let keys = options.table().options.keys();
            keys.into_iter().find(|k| k.eq_ignore_ascii_case(&wanted)).cloned().unwrap_or(wanted)
        };
        let null_rate = options.number(&key("null-rate")).unwrap_or(0.0);
        if !(0.0..=1.0).contains(&null_rate) {
            return Err(options.bad(&key("null-rate"), format!("`{null_rate}` is not a share from 0 to 1")));
        }
        if null_rate > 0.0 && !field.is_nullable() {
            let message = format!("column `{}` is NOT NULL and cannot hold NULLs", field.name());
            return Err(options.bad(&key("null-rate"), message));
        }
        let is_sequence = options.text(&key("kind")).is_some_and(|k| k.eq_ignore_ascii_case("sequence"));
        let known = known_options(field.data_type(), is_sequence);
        for what in RULE_OPTIONS.iter().filter(|what| !known.contains(what)) {
            let key = key(what);
            if options.is_set(&key) {
                let made = if is_sequence { "a sequence" } else { "random values" };
                let message = format!("it means nothing for {made} of type {}", type_name(field.data_type()));
                return Err(options.bad(&key, message));
            }
        }
        let whole = |what: &str| -> Result<Option<i64>> {
            let key = key(what);
            match (options.text(&key), options.integer(&key)) {
                (Some(text), None) => Err(options.bad(&key, format!("`{text}` is not a whole number"))),
                (_, number) => Ok(number),
            }
        };
        let kind = if is_sequence {
            if !is_countable(field.data_type()) {
                let message = format!("a sequence cannot be of type {}", type_name(field.data_type()));
                return Err(options.bad(&key("kind"), message));
            }
            let (start, end) = (whole("start")?.unwrap_or(0), whole("end")?);
            if end.is_some_and(|end| end < start) {
                return Err(options.bad(&key("end"), "a sequence cannot end before it starts"));
            }
            for (what, bound) in [("start", Some(start)), ("end", end)] {
                if bound.is_some_and(|bound| !holds(field.data_type(), bound)) {
                    return Err(options.bad(&key(what), format!("no {} is so large", type_name(field.data_type()))));
                }
            }
            Kind::Sequence { start, end }
        } else {
            if is_whole(field.data_type()) {
                whole("min")?;
                whole("max")?;
            }
            match nested(options, field, seed, stream, rows_per_second, &key)? {
                Some(kind) => kind,
                None => random(options, field, &key)?,
            }
        };
        Ok(Self {
            data_type: field.data_type().clone(),
            kind,
            seed,
            stream,
            null_rate,
            row_ms: 1_000.0 / rows_per_second,
        })
    }

    /// Rows until a sequence ends.
    pub(super) fn rows(&self) -> Option<u64> {
        match self.kind {
            Kind::Sequence { start, end: Some(end) } => {
                Some(u64::try_from(i128::from(end) - i128::from(start) + 1).unwrap_or(u64::MAX))
            }
            _ => None,
        }
    }

    /// The values of these rows.
    pub(super) fn make(&self, rows: &[u64], base_ms: i64) -> Result<ArrayRef> {
        let data_type = &self.data_type;
        let array: ArrayRef = match (&self.kind, data_type) {
            (Kind::Sequence { start, .. }, DataType::Utf8) => {
                let mut builder = StringBuilder::with_capacity(rows.len(), rows.len() * 8);
                for row in rows {
                    match self.is_null(*row) {
                        true => builder.append_null(),
                        false => builder.append_value(sequence(*start, *row).to_string()),
                    }
                }
                Arc::new(builder.finish())
            }
            (Kind::Sequence { start, .. }, DataType::Decimal128(_, scale)) => {
                let factor = 10_i128.pow(u32::try_from(*scale).unwrap_or(0));
                self.check(*start, rows)?;
                self.primitive::<Decimal128Type>(rows, |row, _| i128::from(sequence(*start, row)).wrapping_mul(factor))
            }
            (Kind::Sequence { start, .. }, _) => {
                self.check(*start, rows)?;
                let whole = self.primitive::<Int64Type>(rows, |row, _| sequence(*start, row));
                cast(&whole, data_type).map_err(|e| internal(&e))?
            }
            (Kind::Integer { min, max }, DataType::Decimal128(_, _)) => {
                self.primitive::<Decimal128Type>(rows, |_, random| i128::from(between(random, *min, *max)))
            }
            (Kind::Integer { min, max }, DataType::Int8) => {
                self.primitive::<Int8Type>(rows, |_, random| between(random, *min, *max) as i8)
            }
            (Kind::Integer { min, max }, DataType::Int16) => {
                self.primitive::<Int16Type>(rows, |_, random| between(random, *min, *max) as i16)
            }
            (Kind::Integer { min, max }, DataType::Int32) => {
                self.primitive::<Int32Type>(rows, |_, random| between(random, *min, *max) as i32)
            }
            (Kind::Integer { min, max }, _) => {
                self.primitive::<Int64Type>(rows, |_, random| between(random, *min, *max))
            }
            (Kind::Float { min, max }, DataType::Float32) => {
                self.primitive::<Float32Type>(rows, |_, random| blend(unit(random), *min, *max) as f32)
            }
            (Kind::Float { min, max }, _) => {
                self.primitive::<Float64Type>(rows, |_, random| blend(unit(random), *min, *max))
            }
            (Kind::Boolean, _) => {
                let value = |row: &u64| (!self.is_null(*row)).then(|| self.random(*row) & 1 == 1);
                Arc::new(rows.iter().map(value).collect::<BooleanArray>())
            }
            (Kind::Text { length }, _) => self.text(rows, *length),
            (Kind::Bytes { length }, _) => self.bytes(rows, *length),
            (Kind::Time { max_past_ms }, _) => self.time(rows, base_ms, *max_past_ms)?,
            (Kind::List { length, element }, _) => self.list(rows, base_ms, *length, element)?,
            (Kind::Row(fields), _) => self.row(rows, base_ms, fields)?,
        };
        if array.data_type() == data_type {
            return Ok(array);
        }
        cast(&array, data_type).map_err(|e| internal(&e))
    }

    /// A sequence without an end may leave its type.
    fn check(&self, start: i64, rows: &[u64]) -> Result<()> {
        match rows.iter().map(|row| sequence(start, *row)).find(|value| !holds(&self.data_type, *value)) {
            None => Ok(()),
            Some(value) => {
                let message = format!("a sequence has reached {value}, which is no {}", type_name(&self.data_type));
                Err(Error::new(Code::BadOption, message).hint("end it with 'fields.NAME.end' or 'number-of-rows'"))
            }
        }
    }

    #[inline]
    fn random(&self, row: u64) -> u64 {
        mix(self.seed, self.stream, row)
    }

    #[inline]
    fn is_null(&self, row: u64) -> bool {
        self.null_rate > 0.0 && unit(mix(self.seed, self.stream + NULL_STREAM, row)) < self.null_rate
    }

    /// `value(row, random)` of each row that is not NULL.
    fn primitive<T: ArrowPrimitiveType>(&self, rows: &[u64], value: impl Fn(u64, u64) -> T::Native) -> ArrayRef {
        let array: PrimitiveArray<T> = if self.null_rate > 0.0 {
            rows.iter().map(|row| (!self.is_null(*row)).then(|| value(*row, self.random(*row)))).collect()
        } else {
            PrimitiveArray::from_iter_values(rows.iter().map(|row| value(*row, self.random(*row))))
        };
        match &self.data_type {
            decimal @ DataType::Decimal128(_, _) if matches!(T::DATA_TYPE, DataType::Decimal128(_, _)) => {
                Arc::new(array.with_data_type(decimal.clone()))
            }
            _ => Arc::new(array),
        }
    }

    /// Hexadecimal digits, as Flink's.
    fn text(&self, rows: &[u64], length: usize) -> ArrayRef {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut builder = StringBuilder::with_capacity(rows.len(), rows.len() * length);
        let mut text = String::with_capacity(length);
        for row in rows {
            if self.is_null(*row) {
                builder.append_null();
                continue;
            }
            text.clear();
            let mut random = self.random(*row);
            for at in 0..length {
                if at % 16 == 15 {
                    random = mix(random, self.stream, at as u64);
                }
                let digit = DIGITS.get((random & 15) as usize).copied().unwrap_or(b'0');
                text.push(char::from(digit));
                random >>= 4;
            }
            builder.append_value(&text);
        }
        Arc::new(builder.finish())
    }

    fn bytes(&self, rows: &[u64], length: usize) -> ArrayRef {
        let mut builder = BinaryBuilder::with_capacity(rows.len(), rows.len() * length);
        let mut bytes = Vec::with_capacity(length);
        for row in rows {
            if self.is_null(*row) {
                builder.append_null();
                continue;
            }
            bytes.clear();
            let random = self.random(*row);
            bytes.extend((0..length).map(|at| (mix(random, self.stream, at as u64 / 8) >> (at % 8 * 8)) as u8));
            builder.append_value(&bytes);
        }
        Arc::new(builder.finish())
    }

    fn nulls(&self, rows: &[u64]) -> Option<NullBuffer> {
        (self.null_rate > 0.0).then(|| rows.iter().map(|row| !self.is_null(*row)).collect())
    }

    fn list(&self, rows: &[u64], base_ms: i64, length: u64, element: &Column) -> Result<ArrayRef> {
        let elements: Vec<u64> =
            rows.iter().flat_map(|row| (0..length).map(|at| row.wrapping_mul(length).wrapping_add(at))).collect();
        let values = element.make(&elements, base_ms)?;
        let each = usize::try_from(length).unwrap_or(usize::MAX);
        let offsets = OffsetBuffer::from_repeated_length(each, rows.len());
        let nulls = self.nulls(rows);
        Ok(match &self.data_type {
            DataType::Map(entries, sorted) => {
                let pairs = values.as_struct().clone();
                let map = MapArray::try_new(Arc::clone(entries), offsets, pairs, nulls, *sorted);
                Arc::new(map.map_err(|e| internal(&e))?)
            }
            DataType::List(field) => {
                Arc::new(ListArray::try_new(Arc::clone(field), offsets, values, nulls).map_err(|e| internal(&e))?)
            }
            other => return Err(Error::internal(format!("{other} has no elements"))),
        })
    }

    fn row(&self, rows: &[u64], base_ms: i64, fields: &[Column]) -> Result<ArrayRef> {
        let DataType::Struct(wanted) = &self.data_type else { return Err(Error::internal("a row without fields")) };
        let columns = fields.iter().map(|field| field.make(rows, base_ms)).collect::<Result<Vec<_>>>()?;
        let row = StructArray::try_new_with_length(wanted.clone(), columns, self.nulls(rows), rows.len());
        Ok(Arc::new(row.map_err(|e| internal(&e))?))
    }

    /// The time of the row, or a random one up to `max_past_ms` before it.
    fn time(&self, rows: &[u64], base_ms: i64, max_past_ms: u64) -> Result<ArrayRef> {
        let moment = |row: u64, random: u64| {
            let past = below(random, max_past_ms.saturating_add(1));
            base_ms.saturating_add((row as f64 * self.row_ms) as i64).saturating_sub_unsigned(past)
        };
        Ok(match &self.data_type {
            DataType::Date32 => self.primitive::<Date32Type>(rows, |row, random| {
                i32::try_from(moment(row, random).div_euclid(DAY_MS)).unwrap_or(i32::MAX)
            }),
            DataType::Time32(_) | DataType::Time64(_) => {
                let nanos = |_, random| below(random, 86_400_000) as i64 * 1_000_000;
                cast(&self.primitive::<Time64NanosecondType>(rows, nanos), &self.data_type).map_err(|e| internal(&e))?
            }
            other => {
                let array = self.primitive::<TimestampMillisecondType>(rows, moment);
                let DataType::Timestamp(unit, _) = other else { return Ok(array) };
                let plain = cast(&array, &DataType::Timestamp(*unit, None)).map_err(|e| internal(&e))?;
                // The zone is only a name: no zone data is needed to put it there.
                let data = plain.to_data().into_builder().data_type(other.clone()).build();
                arrow::array::make_array(data.map_err(|e| internal(&e))?)
            }
        })
    }
}

/// Elements of an array or map when nothing is said, as in Flink.
const ELEMENTS_DEFAULT: u64 = 3;
/// Elements of one value at most: a batch of them must fit in memory.
const ELEMENTS_MAX: u64 = 10_000;

/// The rule of an array (`fields.a.element.…`), map (`fields.m.key.…`, `fields.m.value.…`) or row
/// (`fields.r.name.…`). None: the type is none of them.
fn nested(
    options: &Options<'_>,
    field: &FieldRef,
    seed: u64,
    stream: u64,
    rows_per_second: f64,
    key: &dyn Fn(&str) -> String,
) -> Result<Option<Kind>> {
    let length = match options.table().option(&key("length")).and_then(|_| options.integer(&key("length"))) {
        None => ELEMENTS_DEFAULT,
        Some(length) => u64::try_from(length)
            .ok()
            .filter(|length| *length <= ELEMENTS_MAX)
            .ok_or_else(|| options.bad(&key("length"), format!("a value has at most {ELEMENTS_MAX} elements")))?,
    };
    // Streams of columns are small numbers, of nulls bit 32: children take the bits above.
    let child = |index: u64, name: &str, inner: &FieldRef, rate: f64| {
        let inner = Arc::new(inner.as_ref().clone().with_name(format!("{}.{name}", field.name())));
        Column::of(options, &inner, seed, mix(stream, index, 1) << 33 | stream, rate)
    };
    let rate = rows_per_second * length.max(1) as f64;
    Ok(Some(match field.data_type() {
        DataType::List(element) => Kind::List { length, element: Box::new(child(0, "element", element, rate)?) },
        DataType::Map(entries, _) => {
            let DataType::Struct(pair) = entries.data_type() else { return Ok(None) };
            let names = ["key", "value"];
            let fields = (0_u64..).zip(pair.iter().zip(names));
            let fields = fields.map(|(index, (inner, name))| child(index, name, inner, rate));
            let row = Kind::Row(fields.collect::<Result<_>>()?);
            let data_type = entries.data_type().clone();
            let element = Column { data_type, kind: row, seed, stream, null_rate: 0.0, row_ms: 1_000.0 / rate };
            Kind::List { length, element: Box::new(element) }
        }
        DataType::Struct(fields) => {
            let fields = (0_u64..).zip(fields);
            let fields = fields.map(|(index, inner)| child(index, inner.name(), inner, rows_per_second));
            Kind::Row(fields.collect::<Result<_>>()?)
        }
        _ => return Ok(None),
    }))
}

fn is_whole(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64)
}

/// What a column may be told beside its kind and its share of NULLs.
const RULE_OPTIONS: &[&str] = &["start", "end", "min", "max", "length", "var-len", "max-past"];

/// Those of them that mean something for a column.
fn known_options(data_type: &DataType, is_sequence: bool) -> &'static [&'static str] {
    if is_sequence {
        return &["start", "end"];
    }
    match data_type {
        DataType::Boolean | DataType::Struct(_) => &[],
        DataType::List(_) | DataType::Map(..) => &["length"],
        DataType::Date32 | DataType::Timestamp(..) => &["max-past"],
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => &["length", "var-len"],
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => &["length", "var-len"],
        data_type if data_type.is_numeric() => &["min", "max"],
        _ => &[],
    }
}

/// Whether a value of a sequence is one of the type.
fn holds(data_type: &DataType, value: i64) -> bool {
    match data_type {
        DataType::Int8 => i8::try_from(value).is_ok(),
        DataType::Int16 => i16::try_from(value).is_ok(),
        DataType::Int32 => i32::try_from(value).is_ok(),
        DataType::Decimal128(precision, scale) => {
            let whole = i16::from(*precision) - i16::from(*scale);
            u32::try_from(whole).is_ok_and(|digits| i128::from(value).abs() < 10_i128.pow(digits))
        }
        _ => true,
    }
}

fn is_countable(data_type: &DataType) -> bool {
    is_whole(data_type)
        || matches!(data_type, DataType::Float32 | DataType::Float64 | DataType::Decimal128(_, _) | DataType::Utf8)
}

/// The rule of a random column.
fn random(options: &Options<'_>, field: &FieldRef, key: &dyn Fn(&str) -> String) -> Result<Kind> {
    let length = options.integer(&key("length")).and_then(|n| usize::try_from(n).ok()).unwrap_or(100);
    let (least, greatest) = match field.data_type() {
        DataType::Int8 => (i64::from(i8::MIN), i64::from(i8::MAX)),
        DataType::Int16 => (i64::from(i16::MIN), i64::from(i16::MAX)),
        DataType::Int32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
        DataType::Int64 => (i64::MIN, i64::MAX),
        DataType::Float32 | DataType::Float64 => {
            let of_type = if *field.data_type() == DataType::Float32 { f64::from(f32::MAX) } else { f64::MAX };
            let min = options.number(&key("min")).unwrap_or(-of_type);
            let max = options.number(&key("max")).unwrap_or(of_type);
            if min > max || min < -of_type || max > of_type {
                return Err(options.bad(&key("min"), format!("no value lies from {min} to {max}")));
            }
            return Ok(Kind::Float { min, max });
        }
        DataType::Decimal128(precision, scale) => {
            // Unscaled; as many digits as fit 64 bits.
            let digits = u32::from(*precision).min(18);
            let limit = 10_i64.pow(digits) - 1;
            let factor = 10_f64.powi(i32::from(*scale));
            let bound = |what: &str| options.number(&key(what)).map(|n| (n * factor).round() as i64);
            let (min, max) = (bound("min").unwrap_or(-limit), bound("max").unwrap_or(limit));
            if min > max || min < -limit || max > limit {
                return Err(options.bad(&key("min"), "the bounds do not fit the column's type"));
            }
            return Ok(Kind::Integer { min, max });
        }
        DataType::Boolean => return Ok(Kind::Boolean),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => return Ok(Kind::Text { length }),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => return Ok(Kind::Bytes { length }),
        DataType::Date32
        | DataType::Timestamp(_, _)
        | DataType::Time32(TimeUnit::Second | TimeUnit::Millisecond)
        | DataType::Time64(TimeUnit::Microsecond | TimeUnit::Nanosecond) => {
            return Ok(Kind::Time { max_past_ms: options.duration_ms(&key("max-past")).unwrap_or(0) });
        }
        other => {
            let message = format!("column `{}`: `datagen` makes no values of type {}", field.name(), type_name(other));
            return Err(Error::new(Code::BadRole, message).at(Place::Named(options.table().name.clone())));
        }
    };
    let min = options.integer(&key("min")).unwrap_or(least);
    let max = options.integer(&key("max")).unwrap_or(greatest);
    if min > max || min < least || max > greatest {
        return Err(options.bad(&key("min"), format!("no {} lies from {min} to {max}", type_name(field.data_type()))));
    }
    Ok(Kind::Integer { min, max })
}

#[inline]
fn sequence(start: i64, row: u64) -> i64 {
    start.saturating_add_unsigned(row)
}

/// A value from `min` to `max`, both possible.
#[inline]
fn between(random: u64, min: i64, max: i64) -> i64 {
    let span = max.wrapping_sub(min) as u64;
    match span.checked_add(1) {
        Some(bound) => min.wrapping_add(below(random, bound) as i64),
        None => random as i64,
    }
}

/// Without passing the greatest double, however far apart the ends are.
#[inline]
fn blend(share: f64, min: f64, max: f64) -> f64 {
    min * (1.0 - share) + max * share
}

fn internal(error: &arrow::error::ArrowError) -> Error {
    Error::internal(format!("could not make up a column: {error}"))
}
