//! Flink's types and the Arrow types that carry them.
//!
//! | SQL | Arrow |
//! |---|---|
//! | `STRING`, `VARCHAR(n)`, `CHAR(n)` | Utf8 (lengths are documentation, nothing is cut) |
//! | `BOOLEAN`, `TINYINT`, `SMALLINT`, `INT`, `BIGINT` | Boolean, Int8, Int16, Int32, Int64 |
//! | `FLOAT`, `DOUBLE` | Float32, Float64 |
//! | `DECIMAL(p, s)`; default (10, 0) | Decimal128 |
//! | `DATE`; `TIME(p)` | Date32; Time32 or Time64 of the precision's unit |
//! | `TIMESTAMP(p)`; default 6 | Timestamp without zone: milliseconds to 3, microseconds to 6, else nanoseconds |
//! | `TIMESTAMP_LTZ(p)` | Timestamp at `+00:00`, the session's zone |
//! | `BYTES`, `VARBINARY(n)`, `BINARY(n)` | Binary |
//! | `ARRAY<T>`, `MAP<K, V>`, `ROW<…>` | List, Map, Struct |
//! | `INTERVAL …` | Interval(MonthDayNano) |

use std::sync::Arc;

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, Fields, IntervalUnit, TimeUnit};
use datafusion_sql::sqlparser::ast;
use datafusion_sql::sqlparser::ast::{ArrayElemTypeDef, ExactNumberInfo, TimezoneInfo};
use qanat_proto::error::nearest;
use qanat_proto::limits::TYPE_DEPTH_MAX;
use qanat_proto::{Code, Error, Result};

/// The zone of `TIMESTAMP_LTZ`: the session's, which is UTC.
pub const SESSION_ZONE: &str = "+00:00";

/// The Arrow type of an SQL type.
///
/// # Errors
/// E0102 for a type that is not supported, E0106 for a precision out of range, E0107 for one that nests too
/// deep. The caller adds the place.
pub fn resolve_type(data_type: &ast::DataType) -> Result<DataType> {
    let resolved = resolve(data_type)?;
    check_depth(&resolved)?;
    Ok(resolved)
}

/// # Errors
/// E0107 for a type that nests deeper than `TYPE_DEPTH_MAX`.
pub(crate) fn check_depth(data_type: &DataType) -> Result<()> {
    if depth(data_type) <= TYPE_DEPTH_MAX {
        return Ok(());
    }
    Err(Error::new(Code::SqlLimit, format!("a type nests deeper than {TYPE_DEPTH_MAX} levels"))
        .hint("keep what lies deeper as a text and take it apart with the JSON functions"))
}

/// Levels of ARRAY, MAP and ROW.
fn depth(data_type: &DataType) -> usize {
    match data_type {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            1 + depth(field.data_type())
        }
        // Its entries are a row.
        DataType::Map(entries, _) => depth(entries.data_type()),
        DataType::Struct(fields) => 1 + fields.iter().map(|field| depth(field.data_type())).max().unwrap_or(0),
        _ => 0,
    }
}

fn resolve(data_type: &ast::DataType) -> Result<DataType> {
    use ast::DataType as Sql;
    Ok(match data_type {
        Sql::Boolean | Sql::Bool => DataType::Boolean,
        Sql::TinyInt(_) => DataType::Int8,
        Sql::SmallInt(_) | Sql::Int2(_) => DataType::Int16,
        Sql::Int(_) | Sql::Integer(_) | Sql::Int4(_) => DataType::Int32,
        Sql::BigInt(_) | Sql::Int8(_) => DataType::Int64,
        Sql::Float(ExactNumberInfo::None) | Sql::Real | Sql::Float4 => DataType::Float32,
        Sql::Double(ExactNumberInfo::None) | Sql::DoublePrecision | Sql::Float8 => DataType::Float64,
        Sql::Decimal(size) | Sql::Dec(size) | Sql::Numeric(size) => decimal(*size)?,
        Sql::String(_)
        | Sql::Text
        | Sql::Varchar(_)
        | Sql::CharVarying(_)
        | Sql::CharacterVarying(_)
        | Sql::Char(_)
        | Sql::Character(_)
        | Sql::Nvarchar(_) => DataType::Utf8,
        Sql::Bytes(_) | Sql::Varbinary(_) | Sql::Binary(_) | Sql::Bytea => DataType::Binary,
        Sql::Date => DataType::Date32,
        Sql::Time(precision, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => time(precision.unwrap_or(0))?,
        Sql::Timestamp(precision, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            DataType::Timestamp(time_unit(precision.unwrap_or(6))?, None)
        }
        Sql::Timestamp(precision, TimezoneInfo::Tz) => {
            DataType::Timestamp(time_unit(precision.unwrap_or(6))?, Some(SESSION_ZONE.into()))
        }
        Sql::Array(ArrayElemTypeDef::AngleBracket(element) | ArrayElemTypeDef::SquareBracket(element, _)) => {
            list_of(resolve(element)?)
        }
        Sql::Map(key, value) => map_of(resolve(key)?, resolve(value)?),
        Sql::Struct(fields, _) => {
            let fields = fields.iter().enumerate().map(|(index, field)| {
                let name = field.field_name.as_ref().map_or_else(|| format!("f{index}"), |name| name.value.clone());
                Ok(Field::new(name, resolve(&field.field_type)?, true))
            });
            let fields = fields.collect::<Result<Vec<_>>>()?;
            for (index, field) in fields.iter().enumerate() {
                if fields.iter().take(index).any(|other| other.name().eq_ignore_ascii_case(field.name())) {
                    return Err(Error::new(
                        Code::SqlDuplicate,
                        format!("field `{}` stands twice in a ROW", field.name()),
                    )
                    .hint("names of fields differ in more than upper and lower case"));
                }
            }
            DataType::Struct(fields.into())
        }
        Sql::Interval { .. } => DataType::Interval(IntervalUnit::MonthDayNano),
        other => {
            let error = Error::new(Code::SqlUnsupported, format!("type `{other}` is not supported"));
            return Err(match other {
                Sql::JSON | Sql::JSONB => error.hint("use STRING and the JSON functions"),
                Sql::Datetime(_) => error.hint("use TIMESTAMP"),
                Sql::Uuid => error.hint("use STRING"),
                Sql::Float(_) | Sql::Double(_) => error.hint("use FLOAT, DOUBLE or DECIMAL(p, s)"),
                _ => match nearest(&other.to_string(), NAMES.split(", ").filter(|name| !name.contains(['(', '<']))) {
                    Some(near) => error.hint(format!("did you mean {near}? types are {NAMES}")),
                    None => error.hint(format!("types are {NAMES}")),
                },
            });
        }
    })
}

const NAMES: &str = "STRING, BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, DECIMAL(p, s), DATE, TIME, \
                     TIMESTAMP(p), TIMESTAMP_LTZ(p), BYTES, ARRAY<T>, MAP<K, V>, ROW<name T, …>";

/// A list with nullable elements.
pub fn list_of(element: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(element, true)))
}

/// A map with nullable values.
pub fn map_of(key: DataType, value: DataType) -> DataType {
    let entries = Fields::from(vec![Field::new("key", key, false), Field::new("value", value, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

/// How a user would write the type, for messages.
pub fn sql_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Null => "NULL".to_owned(),
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 => "TINYINT".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INT".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::Float32 => "FLOAT".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "STRING".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "BYTES".to_owned()
        }
        DataType::Date32 | DataType::Date64 => "DATE".to_owned(),
        DataType::Time32(unit) | DataType::Time64(unit) => format!("TIME({})", digits(*unit)),
        DataType::Timestamp(unit, None) => format!("TIMESTAMP({})", digits(*unit)),
        DataType::Timestamp(unit, Some(_)) => format!("TIMESTAMP_LTZ({})", digits(*unit)),
        DataType::Interval(_) | DataType::Duration(_) => "INTERVAL".to_owned(),
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            format!("ARRAY<{}>", sql_name(field.data_type()))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => {
                let inner: Vec<String> = fields.iter().map(|field| sql_name(field.data_type())).collect();
                format!("MAP<{}>", inner.join(", "))
            }
            other => format!("MAP<{}>", sql_name(other)),
        },
        DataType::Struct(fields) => {
            let inner: Vec<String> = fields
                .iter()
                .map(|field| format!("{} {}", spelled(field.name()), sql_name(field.data_type())))
                .collect();
            format!("ROW<{}>", inner.join(", "))
        }
        other => other.to_string(),
    }
}

/// A name in backticks.
pub(crate) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A name as it must be written in SQL.
fn spelled(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if is_plain { name.to_owned() } else { quoted(name) }
}

/// Digits of a second that a unit holds.
pub(crate) fn digits(unit: TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

/// How many digits a number of an exact type has at most before and behind the point.
pub(crate) fn exact_digits(data_type: &DataType) -> Option<(u8, u8)> {
    match data_type {
        DataType::Int8 => Some((3, 0)),
        DataType::Int16 => Some((5, 0)),
        DataType::Int32 => Some((10, 0)),
        DataType::Int64 => Some((19, 0)),
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            let scale = u8::try_from(*scale).ok()?;
            Some((precision.saturating_sub(scale), scale))
        }
        _ => None,
    }
}

/// The unit of a time of day.
pub(crate) fn unit_of_day(data_type: &DataType) -> Option<TimeUnit> {
    match data_type {
        DataType::Time32(unit) | DataType::Time64(unit) => Some(*unit),
        _ => None,
    }
}

/// The type of the most digits among times of day of several. None: there are not several.
pub(crate) fn common_time<'t>(types: impl Iterator<Item = &'t DataType> + Clone) -> Option<DataType> {
    let times = types.filter_map(|data_type| Some((unit_of_day(data_type)?, data_type)));
    let (unit, finest) = times.clone().max_by_key(|(unit, _)| digits(*unit))?;
    times.into_iter().any(|(other, _)| other != unit).then(|| finest.clone())
}

fn decimal(size: ExactNumberInfo) -> Result<DataType> {
    let (precision, scale) = match size {
        ExactNumberInfo::None => (10, 0),
        ExactNumberInfo::Precision(precision) => (precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (precision, scale),
    };
    let checked = u8::try_from(precision)
        .ok()
        .filter(|precision| (1..=DECIMAL128_MAX_PRECISION).contains(precision))
        .zip(i8::try_from(scale).ok().filter(|scale| *scale >= 0))
        .filter(|(precision, scale)| u8::try_from(*scale).is_ok_and(|scale| scale <= *precision));
    checked.map(|(precision, scale)| DataType::Decimal128(precision, scale)).ok_or_else(|| {
        Error::new(Code::TypeMismatch, format!("DECIMAL({precision}, {scale}) is out of range"))
            .hint("the precision is 1 to 38 digits, the scale 0 to the precision")
    })
}

fn time_unit(precision: u64) -> Result<TimeUnit> {
    match precision {
        0..=3 => Ok(TimeUnit::Millisecond),
        4..=6 => Ok(TimeUnit::Microsecond),
        7..=9 => Ok(TimeUnit::Nanosecond),
        _ => Err(Error::new(Code::TypeMismatch, format!("a precision of {precision} digits is out of range"))
            .hint("seconds have 0 to 9 digits")),
    }
}

fn time(precision: u64) -> Result<DataType> {
    if precision == 0 {
        return Ok(DataType::Time32(TimeUnit::Second));
    }
    Ok(match time_unit(precision)? {
        unit @ (TimeUnit::Second | TimeUnit::Millisecond) => DataType::Time32(unit),
        unit @ (TimeUnit::Microsecond | TimeUnit::Nanosecond) => DataType::Time64(unit),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::parse_data_type;

    fn check(sql: &str, expected: &str) {
        let shown = match parse_data_type(sql).and_then(|data_type| resolve_type(&data_type)) {
            Ok(data_type) => format!("{data_type} = {}", sql_name(&data_type)),
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, expected, "{sql}");
    }

    #[test]
    fn plain_types() {
        check("STRING", "Utf8 = STRING");
        check("VARCHAR(20)", "Utf8 = STRING");
        check("char(3)", "Utf8 = STRING");
        check("TINYINT", "Int8 = TINYINT");
        check("INTEGER", "Int32 = INT");
        check("BIGINT", "Int64 = BIGINT");
        check("DOUBLE PRECISION", "Float64 = DOUBLE");
        check("REAL", "Float32 = FLOAT");
        check("DECIMAL", "Decimal128(10, 0) = DECIMAL(10, 0)");
        check("NUMERIC(12, 2)", "Decimal128(12, 2) = DECIMAL(12, 2)");
        check("BYTES", "Binary = BYTES");
        check("VARBINARY(10)", "Binary = BYTES");
    }

    #[test]
    fn times() {
        check("DATE", "Date32 = DATE");
        check("TIME", "Time32(s) = TIME(0)");
        check("TIMESTAMP", "Timestamp(µs) = TIMESTAMP(6)");
        check("TIMESTAMP(3)", "Timestamp(ms) = TIMESTAMP(3)");
        check("TIMESTAMP(9) WITHOUT TIME ZONE", "Timestamp(ns) = TIMESTAMP(9)");
        check("TIMESTAMP_LTZ(3)", "Timestamp(ms, \"+00:00\") = TIMESTAMP_LTZ(3)");
        check("TIMESTAMP(3) WITH LOCAL TIME ZONE", "Timestamp(ms, \"+00:00\") = TIMESTAMP_LTZ(3)");
        check("INTERVAL DAY TO SECOND", "Interval(MonthDayNano) = INTERVAL");
        check("TIMESTAMP WITH TIME ZONE", "[E0102] TIMESTAMP WITH TIME ZONE is not supported (line 1, column 11)");
    }

    #[test]
    fn nested_types() {
        let shown = |sql: &str| sql_name(&resolve_type(&parse_data_type(sql).expect(sql)).expect(sql));
        assert_eq!(
            shown("ARRAY<ROW<a INT NOT NULL, b MAP<STRING, ARRAY<BIGINT>>>>"),
            "ARRAY<ROW<a INT, b MAP<STRING, ARRAY<BIGINT>>>>"
        );
        assert_eq!(shown("ROW(a INT, b STRING COMMENT 'x')"), "ROW<a INT, b STRING>");
        assert_eq!(shown("INT ARRAY"), "ARRAY<INT>");
        assert_eq!(shown("INT[]"), "ARRAY<INT>");
    }

    #[test]
    fn refused_types_say_what_to_use() {
        check("DECIMAL(50, 2)", "[E0106] DECIMAL(50, 2) is out of range");
        check("MULTISET<INT>", "[E0102] type MULTISET is not supported (line 1, column 1)");
        check("JSON", "[E0102] type `JSON` is not supported");
    }
}
