//! Where several values have one type, that is in comparisons, arithmetic, CASE, UNION ALL and some
//! functions: beside a float an exact number is a DOUBLE, times of day and timestamps have the most digits of any of
//! them, and a date beside a timestamp is one.
//!
//! DataFusion would take the float for a `DECIMAL(30, 15)`, in which many a float has no place: neither a
//! NaN nor 1e16; and it has no type for `TIME(0)` beside `TIME(3)`. There is one NaN and one zero.
//! `CASE x WHEN 0` and `NULLIF(x, 0)` of a float compare as `=` does, for which −0.0 is 0.0.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, Result, ScalarValue};
use datafusion_expr::expr::{Between, Case, InList, InSubquery};
use datafusion_expr::expr_schema::cast_subquery;
use datafusion_expr::logical_plan::{Join, Projection, Union};
use datafusion_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion_expr::{BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, Operator};
use datafusion_sql::sqlparser::ast;

use super::casting::{Casting, is_decimal, is_float};
use super::compares;
use crate::functions::math::CANONICAL;
use crate::functions::registry;
use crate::types::{digits, exact_digits};

/// Functions whose arguments have one type.
const OF_ONE_TYPE: &[&str] = &[
    "coalesce",
    "nullif",
    "nvl",
    "ifnull",
    "greatest",
    "least",
    "if",
    "make_array",
    "array_concat",
    "array_union",
    "array_except",
    "array_intersect",
    "array_has_all",
    "array_has_any",
    "map_union",
];

/// Those of them that compare.
const COMPARING: &[&str] = &["nullif", "greatest", "least"];

/// Functions of an array and of what its items are.
const WITH_ITEMS: &[&str] = &[
    "array_append",
    "array_prepend",
    "array_contains",
    "array_has",
    "array_position",
    "array_positions",
    "array_remove",
    "array_remove_all",
    "array_remove_n",
    "array_replace",
    "array_replace_all",
    "array_replace_n",
];

/// The name of a cast's field by which it is known to be there for the planner alone.
const FOR_NOW: &str = "__for_now";

/// Casts the sides of an operator as it is planned: DataFusion asks for its type before any rule runs. They may have
/// other types in the end, so these casts are for that question alone: [`node`] takes them out again.
#[derive(Debug)]
pub(crate) struct CommonTypes;

impl ExprPlanner for CommonTypes {
    fn plan_binary_op(&self, mut expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let (left, right) = (expr.left.clone(), expr.right.clone());
        even_terms([&mut expr.left, &mut expr.right], schema);
        if matches!(expr.op, ast::BinaryOperator::Plus | ast::BinaryOperator::Minus) {
            with_hours(&mut expr.left, &right, schema);
            with_hours(&mut expr.right, &left, schema);
        }
        for (side, before) in [(&mut expr.left, left), (&mut expr.right, right)] {
            if *side != before {
                *side = for_now(std::mem::take(side));
            }
        }
        Ok(PlannerResult::Original(expr))
    }
}

/// The same cast, told apart from the user's.
fn for_now(cast: Expr) -> Expr {
    match cast {
        Expr::Cast(cast) => {
            let marked = cast.field.as_ref().clone().with_name(FOR_NOW);
            Expr::Cast(Cast::new_from_field(cast.expr, Arc::new(marked)))
        }
        other => other,
    }
}

/// A date that goes by hours is a time, as in TIMESTAMPADD: DataFusion would leave the hours away.
fn with_hours(date: &mut Expr, interval: &Expr, schema: &DFSchema) -> bool {
    const DAY: i64 = 86_400_000_000_000;
    let has_hours = interval.exists(|part| {
        Ok(match part {
            Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(value)), _) => value.nanoseconds % DAY != 0,
            Expr::Literal(ScalarValue::IntervalDayTime(Some(value)), _) => {
                i64::from(value.milliseconds) % (DAY / 1_000_000) != 0
            }
            _ => false,
        })
    });
    let is_cast =
        has_hours.unwrap_or(false) && date.get_type(schema).is_ok_and(|data_type| data_type == DataType::Date32);
    if is_cast {
        let to = DataType::Timestamp(TimeUnit::Millisecond, None);
        *date = Expr::Cast(Cast::new(Box::new(std::mem::take(date)), to));
    }
    is_cast
}

/// Casts the keys of a join that [`even`] would cast if they were compared in an expression.
pub(super) fn even_keys(mut join: Join, schema: &DFSchema) -> Join {
    for (left, right) in &mut join.on {
        even([&mut *left, &mut *right], schema);
        widen([left, right], schema);
    }
    join
}

/// Casts the columns of inputs that [`even`] would cast if they stood beside each other.
pub(super) fn even_inputs(union: Union) -> Result<LogicalPlan> {
    let types_of = |column: usize| {
        union.inputs.iter().filter_map(move |input| input.schema().fields().get(column)).map(|field| field.data_type())
    };
    let casts: Vec<Option<Casting>> =
        (0..union.schema.fields().len()).map(|column| Casting::of(types_of(column))).collect();
    if casts.iter().all(Option::is_none) {
        return Ok(LogicalPlan::Union(union));
    }
    let inputs = union.inputs.into_iter().map(|input| {
        let exprs = input.schema().iter().zip(&casts).map(|((qualifier, field), casting)| {
            let column = Expr::from((qualifier, field));
            match casting.as_ref().and_then(|casting| casting.retyped(field.data_type())) {
                Some(to) => cast(column, to).alias_qualified(qualifier.cloned(), field.name()),
                None => column,
            }
        });
        let exprs = exprs.collect();
        Projection::try_new(exprs, input).map(|projection| Arc::new(LogicalPlan::Projection(projection)))
    });
    Union::try_new_with_loose_types(inputs.collect::<Result<_>>()?).map(LogicalPlan::Union)
}

/// One expression over `schema`, whose parts are done.
pub(super) fn node(mut expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    if matches!(&expr, Expr::Cast(cast) if cast.field.name() == FOR_NOW)
        && let Expr::Cast(cast) = expr
    {
        return Ok(Transformed::yes(*cast.expr));
    }
    if let Some(plain) = as_equality(&expr, schema) {
        expr = plain;
        one_type(&mut expr, schema);
        return Ok(Transformed::yes(expr));
    }
    let changed = match &mut expr {
        Expr::InSubquery(within) => even_with_rows(within, schema)?,
        other => one_type(other, schema),
    };
    Ok(Transformed::new_transformed(expr, changed))
}

/// Casts what of an expression must have one type; whether anything had to be cast.
fn one_type(expr: &mut Expr, schema: &DFSchema) -> bool {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(*op) => {
            exact([left.as_mut(), right], schema) | comparable(vec![left, right], schema)
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_arithmetic(*op) => {
            let is_moved = matches!(op, Operator::Plus | Operator::Minus)
                && (with_hours(left, right, schema) || with_hours(right, left, schema));
            even_terms([left.as_mut(), right], schema) || is_moved
        }
        Expr::Between(Between { expr, low, high, .. }) => {
            exact([expr.as_mut(), low, high], schema) | comparable(vec![expr, low, high], schema)
        }
        Expr::InList(InList { expr, list, .. }) => {
            let changed = exact(std::iter::once(expr.as_mut()).chain(list.iter_mut()), schema);
            let changed =
                comparable(std::iter::once(expr.as_mut()).chain(list.iter_mut()).collect(), schema) || changed;
            both_zeros(expr, list, schema) || changed
        }
        Expr::Case(Case { expr, when_then_expr, else_expr }) => {
            let mut changed = false;
            if let Some(base) = expr {
                let whens = when_then_expr.iter_mut().map(|(when, _)| when.as_mut());
                changed |= comparable(std::iter::once(base.as_mut()).chain(whens).collect(), schema);
            }
            let thens = when_then_expr.iter_mut().map(|(_, then)| then.as_mut());
            even(thens.chain(else_expr.as_deref_mut()), schema) || changed
        }
        Expr::ScalarFunction(function) if OF_ONE_TYPE.contains(&function.name()) => {
            let is_comparing = COMPARING.contains(&function.name());
            even(&mut function.args, schema) | (is_comparing && plain(&mut function.args, schema))
        }
        Expr::ScalarFunction(function) if WITH_ITEMS.contains(&function.name()) => {
            even_with_items(&mut function.args, schema)
        }
        _ => false,
    }
}

/// Casts what is looked for in the rows of a query, and these, as the sides of `=` are.
fn even_with_rows(within: &mut InSubquery, schema: &DFSchema) -> Result<bool> {
    let rows = within.subquery.subquery.schema();
    let (Ok(own), Some(row)) = (within.expr.get_type(schema), rows.fields().first()) else { return Ok(false) };
    let types = [own, row.data_type().clone()];
    let wide = || Casting::wide(types.iter().map(exact_digits));
    let Some(casting) = Casting::of(types.iter()).or_else(wide) else { return Ok(false) };
    let [own, row] = types.map(|data_type| casting.retyped(&data_type));
    if let Some(to) = own {
        *within.expr = cast(std::mem::take(&mut within.expr), to);
    }
    if let Some(to) = row {
        within.subquery = cast_subquery(within.subquery.clone(), &to)?;
    }
    Ok(true)
}

/// Casts the array that is the first argument, and what is looked for or put into it.
fn even_with_items(args: &mut [Expr], schema: &DFSchema) -> bool {
    let Some((array, others)) = args.split_first_mut() else { return false };
    let Ok(DataType::List(item)) = array.get_type(schema) else { return false };
    let types: Vec<DataType> = others.iter().filter_map(|other| other.get_type(schema).ok()).collect();
    let Some(casting) = Casting::of(types.iter().chain([item.data_type()])) else { return false };
    others.iter_mut().for_each(|other| retype(other, &casting, schema));
    retype(array, &Casting::Items(Box::new(casting)), schema);
    true
}

/// Casts an expression if it is meant.
fn retype(expr: &mut Expr, casting: &Casting, schema: &DFSchema) {
    if let Some(to) = expr.get_type(schema).ok().and_then(|data_type| casting.retyped(&data_type)) {
        *expr = cast(std::mem::take(expr), to);
    }
}

fn cast(expr: Expr, to: DataType) -> Expr {
    Expr::Cast(Cast::new(Box::new(expr), to))
}

/// Brings what is compared with each other to one type, and floats to one NaN and one zero.
fn comparable(mut exprs: Vec<&mut Expr>, schema: &DFSchema) -> bool {
    let changed = widen(exprs.iter_mut().map(|expr| &mut **expr), schema);
    let changed = even(exprs.iter_mut().map(|expr| &mut **expr), schema) || changed;
    plain(exprs, schema) || changed
}

fn is_arithmetic(op: Operator) -> bool {
    matches!(op, Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo)
}

/// Casts what of `exprs` has another type than the others need; whether anything had to be cast.
fn even<'e>(exprs: impl IntoIterator<Item = &'e mut Expr>, schema: &DFSchema) -> bool {
    let mut exprs: Vec<&mut Expr> = exprs.into_iter().collect();
    let are_read = texts_as_moments(&mut exprs, schema);
    even_by(exprs, schema, |types| Casting::of(types.iter())) || are_read
}

/// Makes timestamps of the texts beside timestamps, with the digits that they have: DataFusion would take all of them
/// to nanoseconds. Whether there were any.
fn texts_as_moments(exprs: &mut [&mut Expr], schema: &DFSchema) -> bool {
    let types: Vec<Option<DataType>> = exprs.iter().map(|expr| expr.get_type(schema).ok()).collect();
    let units = types.iter().filter_map(|data_type| match data_type {
        Some(DataType::Timestamp(unit, _)) => Some(*unit),
        _ => None,
    });
    let Some(finest) = units.max_by_key(|unit| digits(*unit)) else { return false };
    let mut changed = false;
    for (expr, data_type) in exprs.iter_mut().zip(types) {
        if matches!(data_type, Some(DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)) {
            let unit = unit_of_text(expr).unwrap_or_else(|| {
                // All that is compared has its digits, six at least: in nanoseconds not all years have a place.
                if finest == TimeUnit::Nanosecond { finest } else { TimeUnit::Microsecond }
            });
            let to = DataType::Timestamp(unit, None);
            **expr = cast(std::mem::take(*expr), to);
            changed = true;
        }
    }
    changed
}

/// The unit in which the time of a literal has all of its digits.
fn unit_of_text(expr: &Expr) -> Option<TimeUnit> {
    let text = expr.as_literal().and_then(|literal| literal.try_as_str().flatten())?;
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    Some(match fraction.bytes().take_while(u8::is_ascii_digit).count() {
        0 => TimeUnit::Second,
        1..=3 => TimeUnit::Millisecond,
        4..=6 => TimeUnit::Microsecond,
        _ => TimeUnit::Nanosecond,
    })
}

/// The same for the sides of an operator that computes.
fn even_terms<'e>(exprs: impl IntoIterator<Item = &'e mut Expr>, schema: &DFSchema) -> bool {
    even_by(exprs, schema, |types| Casting::of_terms(types.iter()))
}

fn even_by<'e>(
    exprs: impl IntoIterator<Item = &'e mut Expr>,
    schema: &DFSchema,
    casting: impl Fn(&[DataType]) -> Option<Casting>,
) -> bool {
    let exprs: Vec<_> = exprs.into_iter().collect();
    let types: Vec<DataType> = exprs.iter().filter_map(|expr| expr.get_type(schema).ok()).collect();
    let Some(casting) = casting(&types) else { return false };
    exprs.into_iter().for_each(|expr| retype(expr, &casting, schema));
    true
}

/// Casts the exact numbers that are compared where no DECIMAL has room for the digits of all of them: DataFusion would
/// take that with the most digits behind the point, and fail where a value has more before it. Whether there were some.
fn widen<'e>(exprs: impl IntoIterator<Item = &'e mut Expr>, schema: &DFSchema) -> bool {
    let exprs: Vec<_> = exprs.into_iter().filter(|expr| !literal_of(expr).is_some_and(ScalarValue::is_null)).collect();
    let Some(casting) = Casting::wide(exprs.iter().map(|expr| digits_of(expr, schema))) else { return false };
    exprs.into_iter().for_each(|expr| retype(expr, &casting, schema));
    true
}

/// The digits before and behind the point of an exact number; a literal has its own.
fn digits_of(expr: &Expr, schema: &DFSchema) -> Option<(u8, u8)> {
    let under_sign = if let Expr::Negative(inner) = expr { inner } else { expr };
    let value = match under_sign {
        Expr::Literal(ScalarValue::Int32(Some(value)), _) => i64::from(*value),
        Expr::Literal(ScalarValue::Int64(Some(value)), _) => *value,
        _ => return exact_digits(&expr.get_type(schema).ok()?),
    };
    let digits = value.unsigned_abs().checked_ilog10().map_or(1, |digits| digits + 1);
    u8::try_from(digits).ok().map(|digits| (digits, 0))
}

/// Brings literals of timestamps to the digits of what they are compared with, where nothing is lost by it: the
/// other is then compared as it is. Whether there was one.
fn exact<'e>(exprs: impl IntoIterator<Item = &'e mut Expr>, schema: &DFSchema) -> bool {
    let (mut literals, mut finest) = (Vec::new(), None);
    for expr in exprs {
        match (timestamp_literal(expr), expr.get_type(schema)) {
            (Some(literal), _) => literals.push((expr, literal)),
            (None, Ok(DataType::Timestamp(unit, zone))) => {
                let is_finer = finest.as_ref().is_none_or(|(finest, _)| digits(unit) > digits(*finest));
                finest = if is_finer { Some((unit, zone)) } else { finest };
            }
            _ => {}
        }
    }
    let Some((unit, zone)) = finest else { return false };
    let wanted = DataType::Timestamp(unit, zone);
    let mut changed = false;
    for (expr, literal) in literals {
        let DataType::Timestamp(own, _) = literal.data_type() else { continue };
        let coarse = literal.cast_to(&wanted).ok().filter(|_| digits(own) > digits(unit));
        if let Some(coarse) = coarse.filter(|coarse| coarse.cast_to(&literal.data_type()).is_ok_and(|v| v == literal)) {
            *expr = Expr::Literal(coarse, None);
            changed = true;
        }
    }
    changed
}

/// The value of `TIMESTAMP '…'`.
fn timestamp_literal(expr: &Expr) -> Option<ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value.clone()),
        Expr::Cast(cast) => match cast.expr.as_ref() {
            Expr::Literal(text @ ScalarValue::Utf8(_), _) => text.cast_to(cast.field.data_type()).ok(),
            _ => None,
        },
        _ => None,
    }
    .filter(|value| matches!(value.data_type(), DataType::Timestamp(..)) && !value.is_null())
}

/// Makes floats that are computed comparable: the NaN of `0 / 0` has another sign than others.
fn plain<'e>(exprs: impl IntoIterator<Item = &'e mut Expr>, schema: &DFSchema) -> bool {
    let Some(func) = registry().scalar(CANONICAL) else { return false };
    let mut changed = false;
    for expr in exprs {
        // Of two conditions on one value DataFusion keeps the stricter by its bits, in which −0.0 is below 0.0.
        if literal_of(expr).is_some_and(is_zero)
            && let Some(zero) = expr.get_type(schema).ok().and_then(|data_type| zero_of(&data_type))
        {
            *expr = Expr::Literal(zero, None);
            changed = true;
            continue;
        }
        let is_done = matches!(expr, Expr::ScalarFunction(function) if function.name() == CANONICAL);
        let is_given = matches!(expr, Expr::Column(_)) || literal_of(expr).is_some();
        if !is_done && !is_given && expr.get_type(schema).is_ok_and(|data_type| is_float(&data_type)) {
            *expr = func.call(vec![std::mem::take(expr)]);
            changed = true;
        }
    }
    changed
}

/// Makes a list with a zero hold both, since DataFusion looks for the bits of a float in a longer list.
/// What is no literal has its −0.0 made 0.0.
fn both_zeros(expr: &mut Expr, list: &mut Vec<Expr>, schema: &DFSchema) -> bool {
    let type_of = |expr: &Expr| expr.get_type(schema).ok();
    if !std::iter::once(&*expr).chain(&*list).filter_map(type_of).any(|data_type| is_float(&data_type)) {
        return false;
    }
    let is_single = matches!(type_of(expr), Some(DataType::Float32));
    let zero = |zero: f64| {
        let single = if zero.is_sign_negative() { -0.0_f32 } else { 0.0 };
        let value = if is_single { ScalarValue::Float32(Some(single)) } else { ScalarValue::Float64(Some(zero)) };
        Expr::Literal(value, None)
    };
    if list.iter().all(|item| literal_of(item).is_some()) {
        let has_zero = list.iter().filter_map(literal_of).any(is_zero);
        let missing = [zero(0.0), zero(-0.0)].into_iter().filter(|zero| !list.contains(zero));
        let missing: Vec<Expr> = if has_zero { missing.collect() } else { Vec::new() };
        let changed = !missing.is_empty();
        list.extend(missing);
        return changed;
    }
    for item in std::iter::once(expr).chain(list) {
        if type_of(item).is_some_and(|data_type| is_float(&data_type)) {
            *item = std::mem::take(item) + zero(0.0);
        }
    }
    true
}

/// The literal that an expression is, under its sign and casts.
fn literal_of(expr: &Expr) -> Option<&ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value),
        Expr::Negative(inner) => literal_of(inner),
        Expr::Cast(cast) => literal_of(&cast.expr),
        Expr::TryCast(cast) => literal_of(&cast.expr),
        _ => None,
    }
}

fn zero_of(data_type: &DataType) -> Option<ScalarValue> {
    match data_type {
        DataType::Float32 => Some(ScalarValue::Float32(Some(0.0))),
        DataType::Float64 => Some(ScalarValue::Float64(Some(0.0))),
        _ => None,
    }
}

fn is_zero(value: &ScalarValue) -> bool {
    value.cast_to(&DataType::Float64).is_ok_and(|value| matches!(value, ScalarValue::Float64(Some(0.0))))
}

/// `CASE x WHEN a` and `NULLIF(x, a)` of a column of floats or decimals as `CASE WHEN x = a`; and NULLIF of two types,
/// whose result is the first value as it stands.
fn as_equality(expr: &Expr, schema: &DFSchema) -> Option<Expr> {
    let is_column = |expr: &Expr| {
        matches!(expr, Expr::Column(_)) && expr.get_type(schema).is_ok_and(|t| is_float(&t) || is_decimal(&t))
    };
    match expr {
        Expr::Case(Case { expr: Some(base), when_then_expr, else_expr }) if is_column(base) => {
            let whens = when_then_expr.iter().map(|(when, then)| (equality(base, when, schema), then.clone()));
            Some(Expr::Case(Case::new(None, whens.collect(), else_expr.clone())))
        }
        Expr::ScalarFunction(function) if function.name() == "nullif" => match function.args.as_slice() {
            [value, other] if is_column(value) || (!value.is_volatile() && are_of_two_types(value, other, schema)) => {
                let null = Expr::Literal(ScalarValue::Null, None);
                let whens = vec![(equality(value, other, schema), Box::new(null))];
                Some(Expr::Case(Case::new(None, whens, Some(Box::new(value.clone())))))
            }
            _ => None,
        },
        _ => None,
    }
}

fn are_of_two_types(a: &Expr, b: &Expr, schema: &DFSchema) -> bool {
    match (a.get_type(schema), b.get_type(schema)) {
        (Ok(a), Ok(b)) => a != b && !a.is_null() && !b.is_null(),
        _ => false,
    }
}

fn equality(left: &Expr, right: &Expr, schema: &DFSchema) -> Box<Expr> {
    let mut equality = left.clone().eq(right.clone());
    one_type(&mut equality, schema);
    Box::new(equality)
}
