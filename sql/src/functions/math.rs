//! Numbers, where Flink differs: `MOD`, `LOG`, `POWER`, `CEIL` and `FLOOR` of exact numbers, `BIN`, `HEX`.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::compute::kernels::numeric;
use arrow::datatypes::{DataType, Decimal128Type, Float32Type, Float64Type};
use datafusion_common::Result;
use datafusion_expr::ScalarUDF;

use super::define::{Args, Function, Kind, build_bytes, build_text, double_type, text_type, wrong};
use crate::types::sql_name;

pub(super) fn functions() -> Vec<ScalarUDF> {
    use Kind::{Any, Double, Integer, Text};
    let first = |types: &[DataType]| types.first().cloned().map_or_else(|| wrong("an argument is missing"), Ok);
    vec![
        Function::new("mod", &[Any, Any], modulo_type, modulo).coerce(modulo_types).build(),
        Function::new("log", &[Double, Double], double_type, log).required(1).build(),
        Function::new("power", &[Double, Double], double_type, power).alias("pow").build(),
        Function::new("ceil", &[Any], rounded_type, |args| rounded(args, true))
            .alias("ceiling")
            .coerce(one_number)
            .build(),
        Function::new("floor", &[Any], rounded_type, |args| rounded(args, false)).coerce(one_number).build(),
        Function::new("e", &[], double_type, |args| {
            Ok(Arc::new(Float64Array::from_value(std::f64::consts::E, args.rows)))
        })
        .build(),
        Function::new(CANONICAL, &[Any], first, canonical).build(),
        Function::new("sqrt", &[Double], double_type, square_root).build(),
        Function::new("sign", &[Any], sign_type, sign).alias("signum").coerce(sign_types).build(),
        Function::new("bin", &[Integer], text_type, bin).build(),
        Function::new("unhex", &[Text], |_| Ok(DataType::Binary), unhex).build(),
        Function::new("hex", &[Any], text_type, hex).coerce(hex_types).build(),
    ]
}

/// The name of what makes floats comparable: see `rules::common_types`.
pub(crate) const CANONICAL: &str = "float_canonical";

/// One NaN for all, and 0.0 for −0.0.
fn canonical(args: &Args) -> Result<ArrayRef> {
    Ok(canonical_floats(&args.full(0)?))
}

/// The same of an array; what holds no floats stays as it is.
pub(super) fn canonical_floats(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Float64 => Arc::new(
            array
                .as_primitive::<Float64Type>()
                .unary::<_, Float64Type>(|x| if x.is_nan() { f64::NAN } else { x + 0.0 }),
        ),
        DataType::Float32 => Arc::new(
            array
                .as_primitive::<Float32Type>()
                .unary::<_, Float32Type>(|x| if x.is_nan() { f32::NAN } else { x + 0.0 }),
        ),
        _ => Arc::clone(array),
    }
}

fn is_null(data_type: &DataType) -> bool {
    *data_type == DataType::Null
}

/// NaN for what is negative.
fn square_root(args: &Args) -> Result<ArrayRef> {
    let numbers = args.full(0)?;
    Ok(Arc::new(numbers.as_primitive::<Float64Type>().unary::<_, Float64Type>(f64::sqrt)))
}

/// That of the argument, with room for a one.
fn sign_type(types: &[DataType]) -> Result<DataType> {
    match types.first() {
        Some(DataType::Decimal128(precision, scale)) => {
            let digits = u8::try_from(scale + 1).unwrap_or(1);
            Ok(DataType::Decimal128((*precision).max(digits).min(38), *scale))
        }
        Some(other) => Ok(other.clone()),
        None => wrong("an argument is missing"),
    }
}

fn sign_types(types: &[DataType]) -> Result<Vec<DataType>> {
    match types.first() {
        Some(other) if !other.is_numeric() && !is_null(other) => {
            wrong(format!("SIGN takes a number, not {}", sql_name(other)))
        }
        _ => one_number(types),
    }
}

/// -1, 0 or 1; a NaN stays one.
fn sign(args: &Args) -> Result<ArrayRef> {
    let numbers = args.full(0)?;
    let result = sign_type(&[numbers.data_type().clone()])?;
    let doubles = cast(&numbers, &DataType::Float64)?;
    let signs =
        doubles.as_primitive::<Float64Type>().unary::<_, Float64Type>(|x| if x == 0.0 { 0.0 } else { x.signum() });
    Ok(cast(&signs, &result)?)
}

/// Both arguments as the wider of the two types.
fn modulo_types(types: &[DataType]) -> Result<Vec<DataType>> {
    use datafusion_expr::type_coercion::binary::BinaryTypeCoercer;
    let [a, b] = types else { return wrong("MOD takes two numbers") };
    if !(a.is_numeric() || is_null(a)) || !(b.is_numeric() || is_null(b)) {
        return wrong(format!("MOD takes two numbers, not {} and {}", sql_name(a), sql_name(b)));
    }
    if is_null(a) && is_null(b) {
        return Ok(vec![DataType::Int64, DataType::Int64]);
    }
    if a.is_integer() && b.is_integer() {
        let wide = if a.primitive_width() >= b.primitive_width() { a } else { b };
        return Ok(vec![wide.clone(), wide.clone()]);
    }
    let (a, b) = BinaryTypeCoercer::new(a, &datafusion_expr::Operator::Modulo, b).get_input_types()?;
    Ok(vec![a, b])
}

/// That of the operator `%` over the coerced arguments.
fn modulo_type(types: &[DataType]) -> Result<DataType> {
    use datafusion_expr::type_coercion::binary::BinaryTypeCoercer;
    let [a, b] = types else { return wrong("MOD takes two numbers") };
    if a == b {
        return Ok(a.clone());
    }
    BinaryTypeCoercer::new(a, &datafusion_expr::Operator::Modulo, b).get_result_type()
}

/// The remainder has the sign of the first argument. A zero divisor of exact numbers is an error.
fn modulo(args: &Args) -> Result<ArrayRef> {
    let (a, a_literal) = args.raw(0)?;
    let (b, b_literal) = args.raw(1)?;
    // The kernel divides no row that is NULL on either side.
    use arrow::array::Scalar;
    let scalar = |array: &ArrayRef| Scalar::new(Arc::clone(array));
    let result = match (a_literal && a.len() == 1, b_literal && b.len() == 1) {
        (true, true) => numeric::rem(&scalar(a), &scalar(b))?,
        (true, false) => numeric::rem(&scalar(a), b)?,
        (false, true) => numeric::rem(a, &scalar(b))?,
        (false, false) => numeric::rem(a, b)?,
    };
    if a_literal && b_literal && args.rows != result.len() {
        return datafusion_common::ScalarValue::try_from_array(&result, 0)?.to_array_of_size(args.rows);
    }
    Ok(result)
}

/// `LOG(x)` is natural, `LOG(base, x)` takes its base first.
fn log(args: &Args) -> Result<ArrayRef> {
    let first = args.double(0)?;
    if args.len() == 1 {
        let values = (0..args.rows).map(|row| first.get(row).map(f64::ln));
        return Ok(Arc::new(values.collect::<Float64Array>()));
    }
    let second = args.double(1)?;
    let values = (0..args.rows).map(|row| Some(second.get(row)?.ln() / first.get(row)?.ln()));
    Ok(Arc::new(values.collect::<Float64Array>()))
}

fn power(args: &Args) -> Result<ArrayRef> {
    let (bases, exponents) = (args.double(0)?, args.double(1)?);
    let values = (0..args.rows).map(|row| Some(bases.get(row)?.powf(exponents.get(row)?)));
    Ok(Arc::new(values.collect::<Float64Array>()))
}

fn one_number(types: &[DataType]) -> Result<Vec<DataType>> {
    match types.first() {
        Some(data_type) if is_null(data_type) => Ok(vec![DataType::Float64]),
        Some(data_type) if data_type.is_numeric() => Ok(vec![data_type.clone()]),
        Some(other) => {
            wrong(format!("CEIL and FLOOR take a number, not {}; of a time, write CEIL(t TO HOUR)", sql_name(other)))
        }
        None => wrong("CEIL and FLOOR take a number"),
    }
}

/// Exact numbers stay exact: an integer is its own, a DECIMAL(p, s) loses its scale.
fn rounded_type(types: &[DataType]) -> Result<DataType> {
    match types.first() {
        Some(DataType::Decimal128(precision, scale)) => {
            let whole = precision.saturating_sub(u8::try_from(*scale).unwrap_or(0)).saturating_add(1);
            Ok(DataType::Decimal128(whole.clamp(1, 38), 0))
        }
        Some(other) => Ok(other.clone()),
        None => wrong("an argument is missing"),
    }
}

fn rounded(args: &Args, up: bool) -> Result<ArrayRef> {
    let array = args.full(0)?;
    Ok(match array.data_type() {
        DataType::Float64 => Arc::new(
            array.as_primitive::<Float64Type>().unary::<_, Float64Type>(|n| if up { n.ceil() } else { n.floor() }),
        ),
        DataType::Float32 => Arc::new(
            array.as_primitive::<Float32Type>().unary::<_, Float32Type>(|n| if up { n.ceil() } else { n.floor() }),
        ),
        DataType::Decimal128(_, scale) => {
            let DataType::Decimal128(precision, _) = rounded_type(&[array.data_type().clone()])? else {
                return wrong("no decimal");
            };
            let unit = 10_i128.pow(u32::try_from(*scale).unwrap_or(0));
            let values = array.as_primitive::<Decimal128Type>().unary::<_, Decimal128Type>(|n| {
                let floor = n.div_euclid(unit);
                if up && n.rem_euclid(unit) != 0 { floor + 1 } else { floor }
            });
            Arc::new(values.with_precision_and_scale(precision, 0)?)
        }
        _ => array,
    })
}

fn bin(args: &Args) -> Result<ArrayRef> {
    use std::fmt::Write;
    let values = args.integer(0)?;
    build_text(args.rows, |row, out| Ok(values.get(row).and_then(|value| write!(out, "{value:b}").ok())))
}

/// The bytes that hexadecimal digits write; NULL for another text.
fn unhex(args: &Args) -> Result<ArrayRef> {
    let texts = args.text(0)?;
    build_bytes(args.rows, |row| Ok(texts.get(row).and_then(from_hex)))
}

pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let padded = if text.len().is_multiple_of(2) { text.to_owned() } else { format!("0{text}") };
    if !padded.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..padded.len()).step_by(2).map(|at| u8::from_str_radix(padded.get(at..at + 2)?, 16).ok()).collect()
}

fn hex_types(types: &[DataType]) -> Result<Vec<DataType>> {
    match types.first() {
        Some(data_type) if data_type.is_integer() => Ok(vec![DataType::Int64]),
        Some(DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 | DataType::Null) => Ok(vec![DataType::Binary]),
        Some(DataType::Binary | DataType::LargeBinary | DataType::BinaryView) => Ok(vec![DataType::Binary]),
        _ => wrong("HEX takes an integer or a text"),
    }
}

fn hex(args: &Args) -> Result<ArrayRef> {
    use std::fmt::Write;
    if *args.raw(0)?.0.data_type() == DataType::Int64 {
        let values = args.integer(0)?;
        return build_text(args.rows, |row, out| Ok(values.get(row).and_then(|value| write!(out, "{value:X}").ok())));
    }
    let values = args.bytes(0)?;
    build_text(args.rows, |row, out| {
        let Some(bytes) = values.get(row) else { return Ok(None) };
        for byte in bytes {
            if write!(out, "{byte:02X}").is_err() {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
}
