//! Division and multiplication of decimals with Flink's scale, rounded half up. DataFusion's quotient keeps four
//! digits more than the dividend and cuts the rest off, and its product keeps all digits behind the point, whether
//! any are left before it. [`crate::rules::decimals`] puts them in the place of `/` and `*`.
//! [`crate::rules::overflow`] has results of other operators checked.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array};
use arrow::datatypes::{DataType, Decimal128Type, DecimalType, i256};
use arrow::error::ArrowError;
use datafusion_common::Result;
use datafusion_expr::ScalarUDF;

use super::define::{Args, Function, Kind, wrong};
use crate::types::exact_digits;

/// The name of the call.
pub(crate) const DIVIDE: &str = "decimal_divide";
/// The name of the call for products that may have more than 38 digits.
pub(crate) const MULTIPLY: &str = "decimal_multiply";
/// The name of the call that fails for a decimal with more digits than its type has.
pub(crate) const CHECKED: &str = "decimal_checked";
const PRECISION_MAX: u8 = 38;
/// Digits behind the point that a quotient has at least, and a long product as far as its factors have them.
const SCALE_MIN: i16 = 6;

pub(super) fn functions() -> Vec<ScalarUDF> {
    let same = |types: &[DataType]| match types.first() {
        Some(decimal @ DataType::Decimal128(..)) => Ok(decimal.clone()),
        _ => wrong("decimals are checked"),
    };
    vec![
        Function::new(DIVIDE, &[Kind::Any, Kind::Any], quotient_type, divide).coerce(exact_types).build(),
        Function::new(MULTIPLY, &[Kind::Any, Kind::Any], product_type, multiply).coerce(exact_types).build(),
        Function::new(CHECKED, &[Kind::Any], same, checked).build(),
    ]
}

/// An exact number's type as a decimal: that of an integer holds all of its values.
pub(crate) fn as_decimal(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Decimal128(..) => Some(data_type.clone()),
        DataType::Decimal256(..) => None,
        integer => exact_digits(integer).map(|(whole, _)| DataType::Decimal128(whole, 0)),
    }
}

fn exact_types(types: &[DataType]) -> Result<Vec<DataType>> {
    match types.iter().map(as_decimal).collect::<Option<Vec<_>>>() {
        Some(types) => Ok(types),
        None => wrong("exact numbers are divided"),
    }
}

/// Flink's rule: the scale is `max(6, s1 + p2 + 1)`; beyond 38 digits, those in front of the point stay
/// and at least six behind it.
fn quotient_type(types: &[DataType]) -> Result<DataType> {
    let [DataType::Decimal128(p1, s1), DataType::Decimal128(p2, s2)] = types else {
        return wrong("decimals are divided");
    };
    let (p1, s1, p2, s2) = (i16::from(*p1), i16::from(*s1), i16::from(*p2), i16::from(*s2));
    let max = i16::from(PRECISION_MAX);
    let whole = p1 - s1 + s2;
    let scale = SCALE_MIN.max(s1 + p2 + 1);
    let (precision, scale) =
        if whole + scale <= max { (whole + scale, scale) } else { (max, scale.min(SCALE_MIN).max(max - whole)) };
    decimal(precision.max(1), scale)
}

fn decimal(precision: i16, scale: i16) -> Result<DataType> {
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(precision), Ok(scale)) => Ok(DataType::Decimal128(precision, scale)),
        _ => wrong(format!("DECIMAL({precision}, {scale}) is no type")),
    }
}

/// Whether a product of these may have more digits than a decimal.
pub(crate) fn is_long(types: &[DataType; 2]) -> bool {
    match types {
        [DataType::Decimal128(p1, _), DataType::Decimal128(p2, _)] => p1 + p2 + 1 > PRECISION_MAX,
        _ => false,
    }
}

/// Flink's rule: the precision is `p1 + p2 + 1` and the scale `s1 + s2`; beyond 38 digits, those in front of the
/// point stay and at least six behind it.
fn product_type(types: &[DataType]) -> Result<DataType> {
    let [DataType::Decimal128(p1, s1), DataType::Decimal128(p2, s2)] = types else {
        return wrong("decimals are multiplied");
    };
    let (precision, scale) = (i16::from(*p1) + i16::from(*p2) + 1, i16::from(*s1) + i16::from(*s2));
    let max = i16::from(PRECISION_MAX);
    if precision <= max {
        return decimal(precision, scale);
    }
    decimal(max, (max - (precision - scale)).max(scale.min(SCALE_MIN)))
}

fn multiply(args: &Args) -> Result<ArrayRef> {
    let (left, right) = (args.full(0)?, args.full(1)?);
    let result = product_type(&[left.data_type().clone(), right.data_type().clone()])?;
    let (left, right) = (left.as_primitive::<Decimal128Type>(), right.as_primitive::<Decimal128Type>());
    let DataType::Decimal128(precision, scale) = result else { return wrong("decimals are multiplied") };
    let overflow = || ArrowError::ArithmeticOverflow(format!("a product does not fit DECIMAL({precision}, {scale})"));
    let cut = i16::from(left.scale()) + i16::from(right.scale()) - i16::from(scale);
    let divisor = i256::from_i128(10).checked_pow(u32::try_from(cut).unwrap_or(0)).ok_or_else(overflow)?;
    let mut values = Vec::with_capacity(left.len());
    for row in 0..left.len() {
        if left.is_null(row) || right.is_null(row) {
            values.push(None);
            continue;
        }
        // 256 bits hold any product of two times 128.
        let product = i256::from_i128(left.value(row)).wrapping_mul(i256::from_i128(right.value(row)));
        let product = half_up_wide(product, divisor).ok_or_else(overflow)?;
        Decimal128Type::validate_decimal_precision(product, precision, scale).map_err(|_| overflow())?;
        values.push(Some(product));
    }
    Ok(Arc::new(Decimal128Array::from(values).with_precision_and_scale(precision, scale)?))
}

fn divide(args: &Args) -> Result<ArrayRef> {
    let (left, right) = (args.full(0)?, args.full(1)?);
    let result = quotient_type(&[left.data_type().clone(), right.data_type().clone()])?;
    let (left, right) = (left.as_primitive::<Decimal128Type>(), right.as_primitive::<Decimal128Type>());
    let DataType::Decimal128(precision, scale) = result else { return wrong("decimals are divided") };
    let shift = i16::from(scale) + i16::from(right.scale()) - i16::from(left.scale());
    let power = |exponent: i16| i256::from_i128(10).checked_pow(u32::from(exponent.unsigned_abs()));
    let overflow = || ArrowError::ArithmeticOverflow(format!("a quotient does not fit DECIMAL({precision}, {scale})"));
    let factor = power(shift).ok_or_else(overflow)?;
    // Where numbers are short, which is the rule, 128 bits do.
    let narrow = (shift >= 0).then(|| factor.to_i128()).flatten();
    let mut values = Vec::with_capacity(left.len());
    for row in 0..left.len() {
        if left.is_null(row) || right.is_null(row) {
            values.push(None);
            continue;
        }
        let (dividend, divisor) = (left.value(row), right.value(row));
        if divisor == 0 {
            return Err(ArrowError::DivideByZero.into());
        }
        let quotient = match narrow.and_then(|factor| dividend.checked_mul(factor)) {
            Some(dividend) => half_up(dividend, divisor),
            None => wide(dividend, divisor, factor, shift).ok_or_else(overflow)?,
        };
        Decimal128Type::validate_decimal_precision(quotient, precision, scale).map_err(|_| overflow())?;
        values.push(Some(quotient));
    }
    Ok(Arc::new(Decimal128Array::from(values).with_precision_and_scale(precision, scale)?))
}

fn checked(args: &Args) -> Result<ArrayRef> {
    let array = args.full(0)?;
    let decimals = array.as_primitive::<Decimal128Type>();
    decimals.validate_decimal_precision(decimals.precision())?;
    Ok(array)
}

/// The quotient rounded half away from zero.
fn half_up(dividend: i128, divisor: i128) -> i128 {
    let quotient = dividend.wrapping_div(divisor);
    let rest = dividend.wrapping_rem(divisor).unsigned_abs();
    // Not twice the rest: that may not fit.
    if rest >= divisor.unsigned_abs() - rest && rest > 0 {
        quotient + if (dividend < 0) == (divisor < 0) { 1 } else { -1 }
    } else {
        quotient
    }
}

/// The same in 256 bits; None: it does not fit.
fn wide(dividend: i128, divisor: i128, factor: i256, shift: i16) -> Option<i128> {
    let (dividend, divisor) = (i256::from_i128(dividend), i256::from_i128(divisor));
    let (dividend, divisor) =
        if shift >= 0 { (dividend.checked_mul(factor)?, divisor) } else { (dividend, divisor.checked_mul(factor)?) };
    half_up_wide(dividend, divisor)
}

fn half_up_wide(dividend: i256, divisor: i256) -> Option<i128> {
    let quotient = dividend.checked_div(divisor)?;
    let rest = dividend.checked_rem(divisor)?.wrapping_abs();
    let up = rest >= divisor.wrapping_abs().wrapping_sub(rest) && rest > i256::ZERO;
    let one = if (dividend < i256::ZERO) == (divisor < i256::ZERO) { i256::ONE } else { i256::MINUS_ONE };
    if up { quotient.checked_add(one)? } else { quotient }.to_i128()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_have_flinks_types() {
        let decimal = DataType::Decimal128;
        for (left, right, quotient) in [
            (decimal(3, 2), decimal(10, 0), decimal(14, 13)),
            (decimal(10, 2), decimal(10, 2), decimal(23, 13)),
            (decimal(20, 2), decimal(20, 2), decimal(38, 18)),
            (decimal(38, 2), decimal(19, 0), decimal(38, 6)),
            (decimal(38, 10), decimal(19, 0), decimal(38, 10)),
            (decimal(38, 0), decimal(38, 38), decimal(38, 6)),
        ] {
            assert_eq!(quotient_type(&[left.clone(), right.clone()]).expect("a type"), quotient, "{left} / {right}");
        }
    }

    #[test]
    fn products_have_flinks_types() {
        let decimal = DataType::Decimal128;
        for (left, right, product) in [
            (decimal(10, 2), decimal(10, 4), decimal(21, 6)),
            (decimal(38, 18), decimal(38, 18), decimal(38, 6)),
            (decimal(20, 10), decimal(20, 10), decimal(38, 17)),
            (decimal(38, 2), decimal(10, 0), decimal(38, 2)),
            (decimal(38, 18), decimal(10, 0), decimal(38, 7)),
        ] {
            assert_eq!(product_type(&[left.clone(), right.clone()]).expect("a type"), product, "{left} * {right}");
        }
    }

    #[test]
    fn halves_round_away_from_zero_in_both_widths() {
        for (dividend, divisor, quotient) in
            [(1, 2, 1), (-1, 2, -1), (1, -2, -1), (-1, -2, 1), (5, 4, 1), (7, 4, 2), (-7, 4, -2), (6, 3, 2), (0, 7, 0)]
        {
            assert_eq!(half_up(dividend, divisor), quotient, "{dividend} / {divisor}");
            assert_eq!(wide(dividend, divisor, i256::ONE, 0), Some(quotient), "{dividend} / {divisor}");
        }
        assert_eq!(half_up(i128::MAX, i128::MAX - 1), 1);
        assert_eq!(wide(i128::MAX, 1, i256::from_i128(10), 1), None);
        assert_eq!(wide(55, 1, i256::from_i128(10), -1), Some(6));
    }
}
