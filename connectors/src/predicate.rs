//! What a pushed filter says of single columns, and whether rows within bounds can pass it.
//!
//! The executor makes a [`Predicate`] of a source's pushed filter (`executor/src/pushdown.rs`); a format
//! that keeps statistics asks [`Predicate::outcomes`] for each part of a file. The answer is a set of
//! what the filter *might* give, never less than what it does give: bounds may be wider than the values,
//! and what is not known may be anything.
//!
//! What must never happen: a part is skipped that holds a row which passes, or one on which the filter
//! would have failed. So whoever builds a predicate leaves out any filter that can fail.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, Scalar};
use arrow::compute::kernels::cmp;
use arrow::datatypes::DataType;

/// What the plan behind a source filters.
#[derive(Clone, Debug)]
pub struct PushedFilter {
    pub predicate: Predicate,
    /// The columns that the table's watermark reads: rows that are left out still move it. None: the table
    /// has no watermark.
    pub watermark: Option<Vec<usize>>,
}

impl PushedFilter {
    /// The filter over the columns of a connector.
    #[must_use]
    pub fn bind(&self, binding: &dyn Fn(usize) -> Binding) -> Self {
        let read = |column: &usize| match binding(*column) {
            Binding::Column(column) => Some(column),
            Binding::Constant(_) | Binding::Unknown => None,
        };
        Self {
            predicate: self.predicate.bind(binding),
            watermark: self.watermark.as_ref().map(|columns| columns.iter().filter_map(read).collect()),
        }
    }
}

/// A filter over columns.
#[derive(Clone, Debug)]
pub enum Predicate {
    And(Vec<Predicate>),
    Or(Vec<Predicate>),
    Not(Box<Predicate>),
    /// `column <comparison> value`: the value is an array of length 1, of the column's type.
    Compare {
        column: usize,
        comparison: Comparison,
        value: ArrayRef,
    },
    IsNull {
        column: usize,
    },
    /// Something that is not looked into: it gives one of these, and never fails.
    Known(Outcomes),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    /// The same with its sides exchanged.
    #[must_use]
    pub fn mirrored(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
            other => other,
        }
    }
}

/// What a predicate may give over some rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcomes {
    pub can_be_true: bool,
    pub can_be_false: bool,
    pub can_be_null: bool,
}

impl Outcomes {
    pub const ANY: Self = Self { can_be_true: true, can_be_false: true, can_be_null: true };
    const NONE: Self = Self { can_be_true: false, can_be_false: false, can_be_null: false };
    const NULL: Self = Self { can_be_null: true, ..Self::NONE };

    /// Exactly this value.
    pub fn of(value: Option<bool>) -> Self {
        match value {
            Some(true) => Self { can_be_true: true, ..Self::NONE },
            Some(false) => Self { can_be_false: true, ..Self::NONE },
            None => Self::NULL,
        }
    }

    fn and(self, other: Self) -> Self {
        let not_false = |o: Self| o.can_be_true || o.can_be_null;
        Self {
            can_be_true: self.can_be_true && other.can_be_true,
            can_be_false: self.can_be_false || other.can_be_false,
            can_be_null: (self.can_be_null && not_false(other)) || (other.can_be_null && not_false(self)),
        }
    }

    fn not(self) -> Self {
        Self { can_be_true: self.can_be_false, can_be_false: self.can_be_true, can_be_null: self.can_be_null }
    }
}

/// What is known of a column's values in some rows.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// No value is less: an array of length 1 that is not NULL. None: not known.
    pub min: Option<ArrayRef>,
    /// No value is greater.
    pub max: Option<ArrayRef>,
    pub can_be_null: bool,
    /// Whether there is any value besides NULL.
    pub has_values: bool,
}

impl Bounds {
    pub const UNKNOWN: Self = Self { min: None, max: None, can_be_null: true, has_values: true };

    /// Of a column that holds one value, NULL or not, in every row.
    pub fn constant(value: &ArrayRef) -> Self {
        if value.is_null(0) {
            return Self { min: None, max: None, can_be_null: true, has_values: false };
        }
        Self { min: Some(value.clone()), max: Some(value.clone()), can_be_null: false, has_values: true }
    }
}

/// A column as a connector finds it.
#[derive(Clone, Debug)]
pub enum Binding {
    /// It is read, and called by this number from now on.
    Column(usize),
    /// It has the same value in every row: an array of length 1.
    Constant(ArrayRef),
    Unknown,
}

impl Predicate {
    /// What it may give over rows whose columns are within bounds.
    pub fn outcomes(&self, bounds: &dyn Fn(usize) -> Bounds) -> Outcomes {
        match self {
            Self::And(all) => {
                let every = Outcomes::of(Some(true));
                all.iter().fold(every, |outcomes, predicate| outcomes.and(predicate.outcomes(bounds)))
            }
            // NOT (NOT a AND NOT b).
            Self::Or(any) => {
                let every = Outcomes::of(Some(true));
                any.iter().fold(every, |outcomes, predicate| outcomes.and(predicate.outcomes(bounds).not())).not()
            }
            Self::Not(inner) => inner.outcomes(bounds).not(),
            Self::Compare { column, comparison, value } => compare(&bounds(*column), *comparison, value),
            Self::IsNull { column } => {
                let bounds = bounds(*column);
                Outcomes { can_be_true: bounds.can_be_null, can_be_false: bounds.has_values, can_be_null: false }
            }
            Self::Known(outcomes) => *outcomes,
        }
    }

    /// Whether a row within bounds can pass.
    pub fn can_pass(&self, bounds: &dyn Fn(usize) -> Bounds) -> bool {
        self.outcomes(bounds).can_be_true
    }

    /// The predicate over the columns of a connector.
    #[must_use]
    pub fn bind(&self, binding: &dyn Fn(usize) -> Binding) -> Self {
        let all = |inner: &[Self]| inner.iter().map(|predicate| predicate.bind(binding)).collect();
        match self {
            Self::And(inner) => Self::And(all(inner)),
            Self::Or(inner) => Self::Or(all(inner)),
            Self::Not(inner) => Self::Not(Box::new(inner.bind(binding))),
            Self::Known(outcomes) => Self::Known(*outcomes),
            Self::Compare { column, comparison, value } => match binding(*column) {
                Binding::Column(column) => Self::Compare { column, comparison: *comparison, value: value.clone() },
                Binding::Constant(constant) => Self::Known(compare(&Bounds::constant(&constant), *comparison, value)),
                Binding::Unknown => Self::Known(Outcomes::ANY),
            },
            Self::IsNull { column } => match binding(*column) {
                Binding::Column(column) => Self::IsNull { column },
                Binding::Constant(constant) => Self::Known(Outcomes::of(Some(constant.is_null(0)))),
                Binding::Unknown => Self::Known(Outcomes { can_be_null: false, ..Outcomes::ANY }),
            },
        }
    }
}

fn compare(bounds: &Bounds, comparison: Comparison, value: &ArrayRef) -> Outcomes {
    if value.is_null(0) || !bounds.has_values {
        return Outcomes::NULL;
    }
    let min = bounds.min.as_ref().map(|min| order(min, value));
    let max = bounds.max.as_ref().map(|max| order(max, value));
    // A bound that is not known, or cannot be compared, allows everything.
    let min_is = |allowed: &[Ordering]| !matches!(min, Some(Some(order)) if !allowed.contains(&order));
    let max_is = |allowed: &[Ordering]| !matches!(max, Some(Some(order)) if !allowed.contains(&order));
    use Ordering::{Equal, Greater, Less};
    let less = min_is(&[Less]);
    let less_or_equal = min_is(&[Less, Equal]);
    let greater = max_is(&[Greater]);
    let greater_or_equal = max_is(&[Greater, Equal]);
    let equal = less_or_equal && greater_or_equal;
    let different = less || greater;
    let (can_be_true, can_be_false) = match comparison {
        Comparison::Equal => (equal, different),
        Comparison::NotEqual => (different, equal),
        Comparison::Less => (less, greater_or_equal),
        Comparison::LessOrEqual => (less_or_equal, greater),
        Comparison::Greater => (greater, less_or_equal),
        Comparison::GreaterOrEqual => (greater_or_equal, less),
    };
    // Statistics leave NaN out, and NaN lies at either end of the order: only an equality with a number
    // is safe from it.
    if value.data_type().is_floating() {
        let is_number = order(value, value) == Some(Equal);
        let keeps_out_nan = comparison == Comparison::Equal && is_number;
        return Outcomes {
            can_be_true: can_be_true || !keeps_out_nan,
            can_be_false: true,
            can_be_null: bounds.can_be_null,
        };
    }
    Outcomes { can_be_true, can_be_false, can_be_null: bounds.can_be_null }
}

/// How the single values of two arrays are ordered; floats as numbers, so that zeros are equal.
/// None: they cannot be compared.
fn order(left: &ArrayRef, right: &ArrayRef) -> Option<Ordering> {
    use arrow::array::AsArray;
    use arrow::datatypes::{Float32Type, Float64Type};
    if left.data_type() != right.data_type() || left.is_null(0) || right.is_null(0) {
        return None;
    }
    match left.data_type() {
        DataType::Float64 => {
            left.as_primitive::<Float64Type>().value(0).partial_cmp(&right.as_primitive::<Float64Type>().value(0))
        }
        DataType::Float32 => {
            left.as_primitive::<Float32Type>().value(0).partial_cmp(&right.as_primitive::<Float32Type>().value(0))
        }
        _ => {
            let (left, right) = (Scalar::new(left.slice(0, 1)), Scalar::new(right.slice(0, 1)));
            let is = |result: Result<arrow::array::BooleanArray, _>| result.ok().map(|result| result.value(0));
            if is(cmp::lt(&left, &right))? {
                Some(Ordering::Less)
            } else if is(cmp::eq(&left, &right))? {
                Some(Ordering::Equal)
            } else {
                Some(Ordering::Greater)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, StringArray};
    use proptest::prelude::*;

    use super::*;

    fn int(value: Option<i64>) -> ArrayRef {
        Arc::new(Int64Array::from(vec![value]))
    }

    fn leaf() -> impl Strategy<Value = Predicate> {
        let comparison = prop_oneof![
            Just(Comparison::Equal),
            Just(Comparison::NotEqual),
            Just(Comparison::Less),
            Just(Comparison::LessOrEqual),
            Just(Comparison::Greater),
            Just(Comparison::GreaterOrEqual),
        ];
        prop_oneof![
            8 => (0_usize..2, comparison, proptest::option::weighted(0.9, -4_i64..4)).prop_map(
                |(column, comparison, value)| Predicate::Compare { column, comparison, value: int(value) }
            ),
            1 => (0_usize..2).prop_map(|column| Predicate::IsNull { column }),
            1 => proptest::option::of(any::<bool>()).prop_map(|value| Predicate::Known(Outcomes::of(value))),
        ]
    }

    fn predicate() -> impl Strategy<Value = Predicate> {
        leaf().prop_recursive(4, 16, 3, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Predicate::And),
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Predicate::Or),
                inner.prop_map(|inner| Predicate::Not(Box::new(inner))),
            ]
        })
    }

    /// `by` if one part is, else NULL if one part is, else the opposite.
    fn decided(parts: &[Predicate], row: &[Option<i64>; 2], by: bool) -> Option<bool> {
        let truths: Vec<Option<bool>> = parts.iter().map(|part| truth(part, row)).collect();
        if truths.contains(&Some(by)) {
            return Some(by);
        }
        if truths.contains(&None) { None } else { Some(!by) }
    }

    /// SQL's three values.
    fn truth(predicate: &Predicate, row: &[Option<i64>; 2]) -> Option<bool> {
        match predicate {
            Predicate::And(all) => decided(all, row, false),
            Predicate::Or(any) => decided(any, row, true),
            Predicate::Not(inner) => truth(inner, row).map(|value| !value),
            Predicate::Compare { column, comparison, value } => {
                use arrow::array::AsArray;
                let value = value.as_primitive::<arrow::datatypes::Int64Type>();
                let (found, value) = (row[*column]?, (!value.is_null(0)).then(|| value.value(0))?);
                Some(match comparison {
                    Comparison::Equal => found == value,
                    Comparison::NotEqual => found != value,
                    Comparison::Less => found < value,
                    Comparison::LessOrEqual => found <= value,
                    Comparison::Greater => found > value,
                    Comparison::GreaterOrEqual => found >= value,
                })
            }
            Predicate::IsNull { column } => Some(row[*column].is_none()),
            Predicate::Known(outcomes) => match outcomes {
                Outcomes { can_be_true: true, .. } => Some(true),
                Outcomes { can_be_false: true, .. } => Some(false),
                Outcomes { .. } => None,
            },
        }
    }

    proptest! {
        #[test]
        fn what_comes_out_was_expected(
            predicate in predicate(),
            rows in proptest::collection::vec((proptest::option::of(-3_i64..3), proptest::option::of(-3_i64..3)), 1..6),
            slack in 0_i64..2,
            known in any::<[bool; 6]>(),
        ) {
            let rows: Vec<[Option<i64>; 2]> = rows.into_iter().map(|(a, b)| [a, b]).collect();
            let bounds = |column: usize| {
                let values = || rows.iter().filter_map(|row| row[column]);
                let [has_min, has_max, has_nulls] = [known[column], known[2 + column], known[4 + column]];
                Bounds {
                    min: values().min().filter(|_| has_min).map(|min| int(Some(min - slack))),
                    max: values().max().filter(|_| has_max).map(|max| int(Some(max + slack))),
                    can_be_null: !has_nulls || rows.iter().any(|row| row[column].is_none()),
                    has_values: !has_nulls || values().next().is_some(),
                }
            };
            let outcomes = predicate.outcomes(&bounds);
            for row in &rows {
                let is_expected = match truth(&predicate, row) {
                    Some(true) => outcomes.can_be_true,
                    Some(false) => outcomes.can_be_false,
                    None => outcomes.can_be_null,
                };
                prop_assert!(is_expected, "{:?} over {:?} gives {:?}", predicate, row, outcomes);
            }
        }
    }

    fn passes(bounds: &Bounds, comparison: Comparison, value: ArrayRef) -> bool {
        Predicate::Compare { column: 0, comparison, value }.can_pass(&|_| bounds.clone())
    }

    #[test]
    fn bounds_rule_out_what_lies_outside() {
        let bounds =
            Bounds { min: Some(int(Some(10))), max: Some(int(Some(20))), can_be_null: false, has_values: true };
        for (comparison, value, expected) in [
            (Comparison::Equal, 9, false),
            (Comparison::Equal, 10, true),
            (Comparison::Less, 10, false),
            (Comparison::LessOrEqual, 10, true),
            (Comparison::Greater, 20, false),
            (Comparison::GreaterOrEqual, 20, true),
            (Comparison::NotEqual, 15, true),
        ] {
            assert_eq!(passes(&bounds, comparison, int(Some(value))), expected, "{comparison:?} {value}");
        }
        let one = Bounds::constant(&int(Some(5)));
        assert!(!passes(&one, Comparison::NotEqual, int(Some(5))));
    }

    #[test]
    fn nan_may_hide_behind_any_bounds() {
        let float = |value: f64| Arc::new(Float64Array::from(vec![value])) as ArrayRef;
        let bounds = Bounds { min: Some(float(0.0)), max: Some(float(1.0)), can_be_null: false, has_values: true };
        assert!(passes(&bounds, Comparison::Greater, float(2.0)));
        assert!(passes(&bounds, Comparison::Less, float(-2.0)));
        assert!(passes(&bounds, Comparison::Equal, float(f64::NAN)));
        assert!(passes(&bounds, Comparison::Equal, float(-0.0)));
        assert!(!passes(&bounds, Comparison::Equal, float(2.0)));
    }

    #[test]
    fn values_of_another_type_say_nothing() {
        let bounds = Bounds::constant(&(Arc::new(StringArray::from(vec!["a"])) as ArrayRef));
        assert!(passes(&bounds, Comparison::Equal, int(Some(1))));
    }
}
