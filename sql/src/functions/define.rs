//! What every function of ours is made of: a name, the kinds of its arguments, a result type and a body
//! over columns.
//!
//! A body sees literals as columns of one row ([`Column::get`] knows), so that a pattern given as a
//! literal is compiled once and never copied per row. A NULL argument usually gives NULL; the body decides.

use std::any::Any;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayAccessor, ArrayRef, BinaryArray, BinaryBuilder, Float64Array, Int64Array, StringArray, StringBuilder,
};
use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion_common::{DataFusionError, Result, ScalarValue};
use datafusion_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::types::sql_name;

/// What an argument may be, and what it is converted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Utf8.
    Text,
    /// Any integer, as Int64.
    Integer,
    /// Any number, as Float64.
    Double,
    /// Boolean.
    Boolean,
    /// Binary; text gives its UTF-8 bytes.
    Bytes,
    /// A timestamp as it is; a date or text as TIMESTAMP(3).
    Time,
    /// A timestamp, date or time of day as it is; text as TIMESTAMP(3).
    Moment,
    /// As it is.
    Any,
}

impl Kind {
    fn label(self) -> String {
        match self {
            Self::Time => "timestamp".to_owned(),
            Self::Moment => "time".to_owned(),
            other => format!("{other:?}").to_lowercase(),
        }
    }
}

pub(super) type Body = fn(&Args) -> Result<ArrayRef>;
/// The type by the types of the arguments and the text of the first, if that is a literal.
type LiteralResult = fn(&[DataType], Option<&str>) -> Result<DataType>;
pub(super) type ResultType = fn(&[DataType]) -> Result<DataType>;

/// A scalar function; build with [`Function::new`].
pub(super) struct Function {
    name: &'static str,
    aliases: Vec<String>,
    signature: Signature,
    kinds: &'static [Kind],
    required: usize,
    /// The last kind may repeat.
    variadic: bool,
    result: ResultType,
    coerce: Option<fn(&[DataType]) -> Result<Vec<DataType>>>,
    rewrite: Option<fn(Vec<Expr>) -> Result<Expr>>,
    is_choosing: bool,
    literal_result: Option<LiteralResult>,
    /// An argument and what its literal must be.
    literal: Option<(usize, fn(&str) -> Result<()>)>,
    body: Body,
}

impl Function {
    /// All kinds are required.
    pub(super) fn new(name: &'static str, kinds: &'static [Kind], result: ResultType, body: Body) -> Self {
        Self {
            name,
            aliases: Vec::new(),
            signature: Signature::user_defined(Volatility::Immutable),
            kinds,
            required: kinds.len(),
            variadic: false,
            result,
            coerce: None,
            rewrite: None,
            is_choosing: false,
            literal_result: None,
            literal: None,
            body,
        }
    }

    /// Only the first `required` arguments must be given.
    pub(super) fn required(mut self, required: usize) -> Self {
        self.required = required;
        self
    }

    /// The last kind may be given any number of times.
    pub(super) fn variadic(mut self) -> Self {
        self.variadic = true;
        self
    }

    pub(super) fn alias(mut self, alias: &str) -> Self {
        self.aliases.push(alias.to_owned());
        self
    }

    pub(super) fn volatile(mut self) -> Self {
        self.signature = Signature::user_defined(Volatility::Volatile);
        self
    }

    /// Converts the arguments by a rule of its own, after their number was checked.
    pub(super) fn coerce(mut self, rule: fn(&[DataType]) -> Result<Vec<DataType>>) -> Self {
        self.coerce = Some(rule);
        self
    }

    /// What the optimizer writes instead of the call, so that arguments that are not chosen are not
    /// evaluated. The body stands in where no optimizer runs.
    pub(super) fn rewrite(mut self, rule: fn(Vec<Expr>) -> Result<Expr>) -> Self {
        self.rewrite = Some(rule);
        self
    }

    /// The result is the first argument that is not NULL.
    pub(super) fn choosing(mut self) -> Self {
        self.is_choosing = true;
        self
    }

    /// A result whose type hangs on the first argument too.
    pub(super) fn literal_result(mut self, rule: LiteralResult) -> Self {
        self.literal_result = Some(rule);
        self
    }

    /// Holds a literal argument against `check` when the query is planned, not at its first row.
    pub(super) fn literal(mut self, index: usize, check: fn(&str) -> Result<()>) -> Self {
        self.literal = Some((index, check));
        self
    }

    pub(super) fn build(self) -> ScalarUDF {
        ScalarUDF::new_from_impl(self)
    }

    fn usage(&self) -> String {
        let kinds: Vec<String> = self
            .kinds
            .iter()
            .enumerate()
            .map(|(index, kind)| {
                let name = kind.label();
                if index < self.required { name } else { format!("[{name}]") }
            })
            .collect();
        format!("{}({}{})", self.name.to_uppercase(), kinds.join(", "), if self.variadic { ", …" } else { "" })
    }
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

// A name stands for one function, so it is its identity.
impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        (self.result)(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let data_type = match self.literal_result {
            Some(rule) => {
                rule(&types, args.scalar_arguments.first().copied().flatten().and_then(|v| v.try_as_str()).flatten())?
            }
            None => self.return_type(&types)?,
        };
        let is_nullable = !self.is_choosing || args.arg_fields.iter().all(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name, data_type, is_nullable)))
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        if types.len() < self.required || (types.len() > self.kinds.len() && !self.variadic) {
            return wrong(format!(
                "{} does not take {} arguments: {}",
                self.name.to_uppercase(),
                types.len(),
                self.usage()
            ));
        }
        if let Some(rule) = self.coerce {
            return rule(types);
        }
        let kind = |index: usize| self.kinds.get(index).or_else(|| self.kinds.last()).copied().unwrap_or(Kind::Any);
        types
            .iter()
            .enumerate()
            .map(|(index, given)| {
                convert(kind(index), given).ok_or_else(|| {
                    let kind = kind(index).label();
                    let number = index + 1;
                    DataFusionError::Plan(format!(
                        "argument {number} of {} is {}, not {kind}: {}",
                        self.name.to_uppercase(),
                        sql_name(given),
                        self.usage()
                    ))
                })
            })
            .collect()
    }

    fn simplify(&self, args: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        if let Some((index, check)) = self.literal
            && let Some(Expr::Literal(value, _)) = args.get(index)
            && let Some(Some(text)) = value.try_as_str()
        {
            check(text).map_err(|e| DataFusionError::Plan(e.message().into_owned()))?;
        }
        match self.rewrite {
            Some(rule) => rule(args).map(ExprSimplifyResult::Simplified),
            None => Ok(ExprSimplifyResult::Original(args)),
        }
    }

    fn short_circuits(&self) -> bool {
        self.rewrite.is_some() || self.is_choosing
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let volatile = self.signature.volatility == Volatility::Volatile;
        let all_scalars = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if all_scalars && !volatile { 1 } else { args.number_rows };
        let columns = args.args.into_iter().map(|arg| match arg {
            ColumnarValue::Array(array) => Ok((array, false)),
            ColumnarValue::Scalar(scalar) => Ok((scalar.to_array()?, true)),
        });
        let args = Args { columns: columns.collect::<Result<_>>()?, rows };
        let result = (self.body)(&args)?;
        if all_scalars && !volatile {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?));
        }
        Ok(ColumnarValue::Array(result))
    }
}

fn convert(kind: Kind, given: &DataType) -> Option<DataType> {
    let is_text = matches!(given, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null);
    let is_number = given.is_numeric() || *given == DataType::Null;
    match kind {
        Kind::Any => Some(given.clone()),
        Kind::Text => is_text.then_some(DataType::Utf8),
        Kind::Integer => (given.is_integer() || *given == DataType::Null).then_some(DataType::Int64),
        Kind::Double => is_number.then_some(DataType::Float64),
        Kind::Boolean => matches!(given, DataType::Boolean | DataType::Null).then_some(DataType::Boolean),
        Kind::Bytes => {
            let is_bytes = matches!(given, DataType::Binary | DataType::LargeBinary | DataType::BinaryView);
            (is_text || is_bytes).then_some(DataType::Binary)
        }
        Kind::Moment => match given {
            DataType::Timestamp(..) | DataType::Date32 | DataType::Time32(_) | DataType::Time64(_) => {
                Some(given.clone())
            }
            _ => is_text.then_some(DataType::Timestamp(TimeUnit::Millisecond, None)),
        },
        Kind::Time => match given {
            DataType::Timestamp(..) => Some(given.clone()),
            DataType::Date32 | DataType::Date64 => Some(DataType::Timestamp(TimeUnit::Millisecond, None)),
            _ => is_text.then_some(DataType::Timestamp(TimeUnit::Millisecond, None)),
        },
    }
}

/// The arguments of one call.
pub(super) struct Args {
    columns: Vec<(ArrayRef, bool)>,
    pub(super) rows: usize,
}

impl Args {
    pub(super) fn len(&self) -> usize {
        self.columns.len()
    }

    pub(super) fn text(&self, index: usize) -> Result<Column<&StringArray>> {
        self.typed(index)
    }

    pub(super) fn integer(&self, index: usize) -> Result<Column<&Int64Array>> {
        self.typed(index)
    }

    pub(super) fn double(&self, index: usize) -> Result<Column<&Float64Array>> {
        self.typed(index)
    }

    pub(super) fn bytes(&self, index: usize) -> Result<Column<&BinaryArray>> {
        self.typed(index)
    }

    /// The column as it came: one row if it is a literal.
    pub(super) fn raw(&self, index: usize) -> Result<(&ArrayRef, bool)> {
        match self.columns.get(index) {
            Some((array, literal)) => Ok((array, *literal)),
            None => wrong(format!("argument {} is missing", index + 1)),
        }
    }

    /// The column with all its rows.
    pub(super) fn full(&self, index: usize) -> Result<ArrayRef> {
        let (array, literal) = self.raw(index)?;
        if !literal || self.rows == 1 {
            return Ok(Arc::clone(array));
        }
        ScalarValue::try_from_array(array, 0)?.to_array_of_size(self.rows)
    }

    /// A literal's text, where only a literal makes sense (a unit, a mode).
    pub(super) fn literal_text(&self, index: usize) -> Result<Option<&str>> {
        Ok(self.text(index)?.get(0))
    }

    fn typed<A: Array + 'static>(&self, index: usize) -> Result<Column<&A>> {
        let (array, literal) = self.raw(index)?;
        let array: &dyn Any = array.as_any();
        match array.downcast_ref::<A>() {
            Some(array) => Ok(Column { array, literal }),
            None => Err(DataFusionError::Internal(format!("argument {} has an unexpected type", index + 1))),
        }
    }
}

/// A typed column of arguments.
pub(super) struct Column<A> {
    array: A,
    literal: bool,
}

impl<A: ArrayAccessor> Column<A> {
    pub(super) fn get(&self, row: usize) -> Option<A::Item> {
        let row = if self.literal { 0 } else { row };
        // A batch without rows has no row 0.
        (row < self.array.len() && self.array.is_valid(row)).then(|| self.array.value(row))
    }
}

/// Bytes of one text column: beyond 2 GiB its offsets overflow.
const COLUMN_BYTES_MAX: usize = 1 << 30;

/// Builds a text column; `fill` writes a row into the buffer, or gives `None` for NULL.
pub(super) fn build_text(
    rows: usize,
    mut fill: impl FnMut(usize, &mut String) -> Result<Option<()>>,
) -> Result<ArrayRef> {
    let mut builder = StringBuilder::with_capacity(rows, rows * 16);
    let mut buffer = String::new();
    for row in 0..rows {
        buffer.clear();
        match fill(row, &mut buffer)? {
            Some(()) if builder.values_slice().len() + buffer.len() > COLUMN_BYTES_MAX => {
                return failed(format!("the texts of one batch have more than {COLUMN_BYTES_MAX} bytes"));
            }
            Some(()) => builder.append_value(&buffer),
            None => builder.append_null(),
        }
    }
    Ok(Arc::new(builder.finish()))
}

/// Text column of pieces of the arguments.
pub(super) fn build_slices<'a>(
    rows: usize,
    mut value: impl FnMut(usize) -> Result<Option<&'a str>>,
) -> Result<ArrayRef> {
    let mut builder = StringBuilder::with_capacity(rows, rows * 16);
    for row in 0..rows {
        builder.append_option(value(row)?);
    }
    Ok(Arc::new(builder.finish()))
}

pub(super) fn build_bytes(rows: usize, mut value: impl FnMut(usize) -> Result<Option<Vec<u8>>>) -> Result<ArrayRef> {
    let mut builder = BinaryBuilder::with_capacity(rows, rows * 16);
    for row in 0..rows {
        builder.append_option(value(row)?);
    }
    Ok(Arc::new(builder.finish()))
}

pub(super) fn build_booleans(rows: usize, mut value: impl FnMut(usize) -> Result<Option<bool>>) -> Result<ArrayRef> {
    let mut builder = arrow::array::BooleanBuilder::with_capacity(rows);
    for row in 0..rows {
        builder.append_option(value(row)?);
    }
    Ok(Arc::new(builder.finish()))
}

pub(super) fn build_numbers<T: arrow::datatypes::ArrowPrimitiveType>(
    rows: usize,
    mut value: impl FnMut(usize) -> Result<Option<T::Native>>,
) -> Result<ArrayRef> {
    let mut builder = arrow::array::PrimitiveBuilder::<T>::with_capacity(rows);
    for row in 0..rows {
        builder.append_option(value(row)?);
    }
    Ok(Arc::new(builder.finish()))
}

/// The elements, or entries, that a row of an array or map has.
pub(super) fn elements(offsets: &[i32], row: usize) -> Range<usize> {
    let at = |index: usize| offsets.get(index).and_then(|offset| usize::try_from(*offset).ok()).unwrap_or_default();
    at(row)..at(row + 1)
}

pub(super) fn text_type(_: &[DataType]) -> Result<DataType> {
    Ok(DataType::Utf8)
}

pub(super) fn integer_type(_: &[DataType]) -> Result<DataType> {
    Ok(DataType::Int32)
}

pub(super) fn bigint_type(_: &[DataType]) -> Result<DataType> {
    Ok(DataType::Int64)
}

pub(super) fn double_type(_: &[DataType]) -> Result<DataType> {
    Ok(DataType::Float64)
}

pub(super) fn boolean_type(_: &[DataType]) -> Result<DataType> {
    Ok(DataType::Boolean)
}

/// A failure on a value at run time.
pub(super) fn failed<T>(message: impl Into<String>) -> Result<T> {
    Err(DataFusionError::Execution(message.into()))
}

/// A call that cannot be planned.
pub(super) fn wrong<T>(message: impl Into<String>) -> Result<T> {
    Err(DataFusionError::Plan(message.into()))
}
