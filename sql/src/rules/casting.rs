//! What values of several types are cast to where they stand for each other.

use std::sync::Arc;

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, TimeUnit};

use crate::types::{common_time, digits, exact_digits, unit_of_day};

/// Which of several values are cast, and to what.
pub(super) enum Casting {
    /// Numbers, dates and times to one type.
    To(DataType),
    /// Arrays, whose items are.
    Items(Box<Self>),
    /// Rows, of which some fields are; of a map, its keys and its values.
    Fields(Vec<Option<Self>>),
}

impl Casting {
    /// Of the sides of an operator that computes. None: DataFusion finds the right type.
    pub(super) fn of_terms<'t>(types: impl Iterator<Item = &'t DataType> + Clone) -> Option<Self> {
        if types.clone().any(is_float) && types.clone().any(is_decimal) {
            return Some(Self::To(DataType::Float64));
        }
        common_time(types).map(Self::To)
    }

    /// Of values that stand for each other.
    pub(super) fn of<'t>(types: impl Iterator<Item = &'t DataType> + Clone) -> Option<Self> {
        Self::of_terms(types.clone())
            .or_else(|| common_moment(types.clone()).map(Self::To))
            .or_else(|| Self::of_arrays(types.clone()))
            .or_else(|| Self::of_rows(types))
    }

    fn of_arrays<'t>(types: impl Iterator<Item = &'t DataType>) -> Option<Self> {
        let items: Vec<&DataType> = types
            .filter_map(|data_type| match data_type {
                DataType::List(item) => Some(item.data_type()),
                _ => None,
            })
            .collect();
        // Most values are no arrays.
        if items.len() < 2 {
            return None;
        }
        Self::of(items.into_iter()).map(|items| Self::Items(Box::new(items)))
    }

    fn of_rows<'t>(types: impl Iterator<Item = &'t DataType>) -> Option<Self> {
        let rows: Vec<_> = types
            .filter_map(|data_type| match data_type {
                DataType::Struct(fields) => Some(fields),
                DataType::Map(entries, _) => match entries.data_type() {
                    DataType::Struct(fields) => Some(fields),
                    _ => None,
                },
                _ => None,
            })
            .collect();
        let width = rows.iter().map(|fields| fields.len()).min()?;
        let field = |place: usize| {
            let types: Vec<&DataType> = rows.iter().filter_map(|row| row.get(place)).map(|f| f.data_type()).collect();
            Self::of(types.into_iter())
        };
        let fields: Vec<Option<Self>> = (0..width).map(field).collect();
        fields.iter().any(Option::is_some).then_some(Self::Fields(fields))
    }

    /// Of exact numbers that are compared, by their digits before and behind the point. None: they are not all
    /// exact, or a DECIMAL has room for the digits of all of them.
    pub(super) fn wide(digits: impl Iterator<Item = Option<(u8, u8)>>) -> Option<Self> {
        let (whole, fraction) = digits
            .reduce(|a, b| a.zip(b).map(|((whole, fraction), other)| (whole.max(other.0), fraction.max(other.1))))??;
        let (precision, scale) = (whole + fraction, i8::try_from(fraction).ok()?);
        (precision > DECIMAL128_MAX_PRECISION).then_some(Self::To(DataType::Decimal256(precision, scale)))
    }

    /// What a value of a type is cast to. None: it stays.
    pub(super) fn retyped(&self, data_type: &DataType) -> Option<DataType> {
        match (self, data_type) {
            (Self::To(to), _) => is_meant(data_type, to).then(|| to.clone()),
            (Self::Items(items), DataType::List(item)) => {
                let to = items.retyped(item.data_type())?;
                Some(DataType::List(Arc::new(item.as_ref().clone().with_data_type(to))))
            }
            (Self::Fields(castings), DataType::Struct(fields)) => {
                let retyped = |place: usize| castings.get(place)?.as_ref()?.retyped(fields[place].data_type());
                let types: Vec<Option<DataType>> = (0..fields.len()).map(retyped).collect();
                types.iter().any(Option::is_some).then(|| {
                    let fields = fields.iter().zip(types).map(|(field, to)| match to {
                        Some(to) => Arc::new(field.as_ref().clone().with_data_type(to)),
                        None => Arc::clone(field),
                    });
                    DataType::Struct(fields.collect())
                })
            }
            (Self::Fields(_), DataType::Map(entries, is_sorted)) => {
                let to = self.retyped(entries.data_type())?;
                Some(DataType::Map(Arc::new(entries.as_ref().clone().with_data_type(to)), *is_sorted))
            }
            _ => None,
        }
    }
}

/// Whether a value is cast to the type of several.
fn is_meant(data_type: &DataType, to: &DataType) -> bool {
    match to {
        DataType::Decimal256(..) => data_type != to && exact_digits(data_type).is_some(),
        DataType::Timestamp(..) => matches!(data_type, DataType::Date32 | DataType::Timestamp(..)) && data_type != to,
        to => match unit_of_day(to) {
            None => is_decimal(data_type),
            Some(to) => unit_of_day(data_type).is_some_and(|unit| unit != to),
        },
    }
}

/// The timestamp that dates and timestamps of several types are: that with the most digits, with a zone if one has
/// it. DataFusion would go to nanoseconds, in which 9999-12-31 has no place. None: there are not several.
fn common_moment<'t>(types: impl Iterator<Item = &'t DataType> + Clone) -> Option<DataType> {
    let zoned = types.clone().filter_map(|data_type| match data_type {
        DataType::Timestamp(unit, zone) => Some((*unit, zone.clone())),
        _ => None,
    });
    let unit = zoned.clone().map(|(unit, _)| unit).max_by_key(|unit: &TimeUnit| digits(*unit))?;
    let to = DataType::Timestamp(unit, zoned.filter_map(|(_, zone)| zone).next());
    let mut moments = types.filter(|data_type| matches!(data_type, DataType::Date32 | DataType::Timestamp(..)));
    moments.any(|data_type| *data_type != to).then_some(to)
}

pub(super) fn is_decimal(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Decimal128(..) | DataType::Decimal256(..))
}

pub(super) fn is_float(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float32 | DataType::Float64)
}
