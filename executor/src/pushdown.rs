//! From a source's pushed filter to what its connector can use of it.
//!
//! A filter that could fail on some row is not pushed at all: the row must be seen, to become a dead
//! letter. So only forms that never fail are taken: comparisons, `AND`, `OR`, `NOT`, `IS NULL`, `IN`, `LIKE`
//! over columns and literals, and casts that every value survives. Of these, comparisons of a column with a
//! literal say something about bounds; the others may give anything.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion_common::ScalarValue;
use datafusion_expr::Operator;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{
    BinaryExpr, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NotExpr,
};
use datafusion_physical_expr::utils::collect_columns;
use qanat_connectors::predicate::{Comparison, Outcomes, Predicate, PushedFilter};
use qanat_proto::error::Result;
use qanat_proto::graph::SourceNode;

/// Elements of an `IN` list that are looked at.
const LIST_MAX: usize = 1_000;

/// What the connector of `node` may leave out. None: it must give every row.
///
/// # Errors
/// If an expression of the node cannot be read.
pub(crate) fn pushed_filter(node: &SourceNode) -> Result<Option<PushedFilter>> {
    let Some(filter) = &node.pushed_filter else { return Ok(None) };
    let schema = source_schema(node);
    let filter = qanat_sql::expr::physical(filter, &schema)?;
    let Some(predicate) = predicate(&filter, &schema) else { return Ok(None) };
    let watermark = match &node.watermark {
        None => None,
        Some(watermark) => {
            let expr = qanat_sql::expr::physical(&watermark.expr, &schema)?;
            let columns: BTreeSet<usize> = collect_columns(&expr).iter().map(Column::index).collect();
            Some(columns.into_iter().collect())
        }
    };
    Ok(Some(PushedFilter { predicate, watermark }))
}

/// The rows that a source gives.
fn source_schema(node: &SourceNode) -> SchemaRef {
    let physical = node.projection.iter().filter_map(|index| node.table.physical.fields().get(*index).cloned());
    let metadata = node.metadata.iter().filter_map(|index| node.table.metadata.get(*index));
    let metadata = metadata.map(|column| Arc::new(Field::new(&column.name, column.kind.data_type(), true)));
    Arc::new(Schema::new(physical.chain(metadata).collect::<Vec<_>>()))
}

/// None: it might fail.
fn predicate(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Option<Predicate> {
    let expr_any = expr.as_ref();
    if let Some(binary) = expr_any.downcast_ref::<BinaryExpr>() {
        return binary_predicate(binary, schema);
    }
    if let Some(not) = expr_any.downcast_ref::<NotExpr>() {
        return Some(Predicate::Not(Box::new(predicate(not.arg(), schema)?)));
    }
    if let Some(is_null) = expr_any.downcast_ref::<IsNullExpr>() {
        return null_test(is_null.arg(), schema);
    }
    if let Some(is_not_null) = expr_any.downcast_ref::<IsNotNullExpr>() {
        return Some(Predicate::Not(Box::new(null_test(is_not_null.arg(), schema)?)));
    }
    if let Some(list) = expr_any.downcast_ref::<InListExpr>() {
        return list_predicate(list, schema);
    }
    if let Some(like) = expr_any.downcast_ref::<LikeExpr>() {
        let is_safe = is_safe(like.expr(), schema) && is_literal(like.pattern());
        return is_safe.then_some(Predicate::Known(Outcomes::ANY));
    }
    if let Some(literal) = expr_any.downcast_ref::<Literal>() {
        return match literal.value() {
            ScalarValue::Boolean(value) => Some(Predicate::Known(Outcomes::of(*value))),
            ScalarValue::Null => Some(Predicate::Known(Outcomes::of(None))),
            _ => None,
        };
    }
    if let Some(column) = expr_any.downcast_ref::<Column>() {
        let value = ScalarValue::Boolean(Some(true)).to_array().ok()?;
        let is_boolean = *schema.field(column.index()).data_type() == DataType::Boolean;
        let comparison = Comparison::Equal;
        return is_boolean.then(|| Predicate::Compare { column: column.index(), comparison, value });
    }
    None
}

fn binary_predicate(binary: &BinaryExpr, schema: &Schema) -> Option<Predicate> {
    let comparison = match binary.op() {
        Operator::And => {
            return Some(Predicate::And(vec![predicate(binary.left(), schema)?, predicate(binary.right(), schema)?]));
        }
        Operator::Or => {
            return Some(Predicate::Or(vec![predicate(binary.left(), schema)?, predicate(binary.right(), schema)?]));
        }
        Operator::Eq => Comparison::Equal,
        Operator::NotEq => Comparison::NotEqual,
        Operator::Lt => Comparison::Less,
        Operator::LtEq => Comparison::LessOrEqual,
        Operator::Gt => Comparison::Greater,
        Operator::GtEq => Comparison::GreaterOrEqual,
        _ => return None,
    };
    if !is_safe(binary.left(), schema) || !is_safe(binary.right(), schema) {
        return None;
    }
    let compared = compare(binary.left(), comparison, binary.right(), schema)
        .or_else(|| compare(binary.right(), comparison.mirrored(), binary.left(), schema));
    Some(compared.unwrap_or(Predicate::Known(Outcomes::ANY)))
}

/// A column, compared with a literal.
fn compare(
    left: &Arc<dyn PhysicalExpr>,
    comparison: Comparison,
    right: &Arc<dyn PhysicalExpr>,
    schema: &Schema,
) -> Option<Predicate> {
    let literal = right.downcast_ref::<Literal>()?.value().to_array().ok()?;
    let (column, cast_to) = match left.downcast_ref::<CastExpr>() {
        Some(cast) => (cast.expr().downcast_ref::<Column>()?, Some(cast.cast_type())),
        None => (left.downcast_ref::<Column>()?, None),
    };
    let data_type = schema.field(column.index()).data_type();
    if literal.data_type() != cast_to.unwrap_or(data_type) {
        return None;
    }
    let value = match cast_to {
        None => literal,
        // The cast keeps the order and tells values apart, so it can be taken off both sides.
        Some(_) => narrowed(&literal, data_type)?,
    };
    Some(Predicate::Compare { column: column.index(), comparison, value })
}

/// The literal as a value of a narrower type, if it is one.
fn narrowed(literal: &ArrayRef, data_type: &DataType) -> Option<ArrayRef> {
    let narrow = cast(literal, data_type).ok()?;
    let wide = cast(&narrow, literal.data_type()).ok()?;
    let is_same = wide.is_null(0) == literal.is_null(0)
        && (literal.is_null(0) || arrow::compute::kernels::cmp::eq(&wide, literal).ok()?.value(0));
    is_same.then_some(narrow)
}

fn null_test(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Option<Predicate> {
    if let Some(column) = expr.downcast_ref::<Column>() {
        return Some(Predicate::IsNull { column: column.index() });
    }
    // Whether a condition is NULL.
    let is_safe = is_safe(expr, schema) || predicate(expr, schema).is_some();
    is_safe.then_some(Predicate::Known(Outcomes::ANY))
}

fn list_predicate(list: &InListExpr, schema: &Schema) -> Option<Predicate> {
    if !is_safe(list.expr(), schema) || !list.list().iter().all(|element| is_safe(element, schema)) {
        return None;
    }
    let anything = Predicate::Known(Outcomes::ANY);
    if list.len() > LIST_MAX {
        return Some(anything);
    }
    let equal = |element| compare(list.expr(), Comparison::Equal, element, schema).unwrap_or_else(|| anything.clone());
    let any = Predicate::Or(list.list().iter().map(equal).collect());
    Some(if list.negated() { Predicate::Not(Box::new(any)) } else { any })
}

fn is_literal(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.is::<Literal>()
}

/// Whether the value of `expr` can be computed for every row.
fn is_safe(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
    if expr.is::<Column>() || is_literal(expr) {
        return true;
    }
    let Some(cast) = expr.downcast_ref::<CastExpr>() else { return false };
    let Some(column) = cast.expr().downcast_ref::<Column>() else { return false };
    is_widening(schema.field(column.index()).data_type(), cast.cast_type())
}

/// Casts that no value fails and that keep values apart and in order.
fn is_widening(from: &DataType, to: &DataType) -> bool {
    use DataType as T;
    match (from, to) {
        _ if from == to => true,
        (T::Int8, T::Int16 | T::Int32 | T::Int64)
        | (T::Int16, T::Int32 | T::Int64)
        | (T::Int32, T::Int64)
        | (T::Int8 | T::Int16 | T::Int32, T::Float64)
        | (T::Date32, T::Timestamp(arrow::datatypes::TimeUnit::Second | arrow::datatypes::TimeUnit::Millisecond, _)) => {
            true
        }
        (T::Int8, T::Decimal128(precision, scale)) => fits(3, *precision, *scale),
        (T::Int16, T::Decimal128(precision, scale)) => fits(5, *precision, *scale),
        (T::Int32, T::Decimal128(precision, scale)) => fits(10, *precision, *scale),
        (T::Int64, T::Decimal128(precision, scale)) => fits(19, *precision, *scale),
        (T::Decimal128(from_precision, from_scale), T::Decimal128(precision, scale)) => {
            scale >= from_scale
                && i16::from(*precision) - i16::from(*scale) >= i16::from(*from_precision) - i16::from(*from_scale)
        }
        _ => false,
    }
}

/// Whether a decimal has so many digits before its point.
fn fits(digits: i16, precision: u8, scale: i8) -> bool {
    scale >= 0 && i16::from(precision) - i16::from(scale) >= digits
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;
    use datafusion_expr::{Expr, cast, col, lit};

    use super::*;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("i", DataType::Int32, true),
            Field::new("s", DataType::Utf8, true),
            Field::new("b", DataType::Boolean, true),
            Field::new("d", DataType::Date32, true),
        ]))
    }

    fn predicate_of(expr: &Expr) -> Option<Predicate> {
        let schema = schema();
        predicate(&qanat_sql::expr::physical_expr(expr, &schema).expect("an expression"), &schema)
    }

    #[test]
    fn what_may_fail_is_not_pushed() {
        let fallible = [
            lit(10).gt(lit(100) / col("i")),
            cast(col("s"), DataType::Int32).eq(lit(1)),
            col("i").gt(lit(1)).and((col("i") + lit(1)).gt(lit(1))),
            cast(col("d"), DataType::Timestamp(TimeUnit::Nanosecond, None)).is_null(),
        ];
        for expr in fallible {
            assert!(predicate_of(&expr).is_none(), "{expr}");
        }
    }

    #[test]
    fn comparisons_name_their_column() {
        let text = |expr: Expr| format!("{:?}", predicate_of(&expr).expect("pushed"));
        assert!(text(lit(5).gt(col("i"))).starts_with("Compare { column: 0, comparison: Less"));
        assert!(text(cast(col("i"), DataType::Int64).lt(lit(5_i64))).contains("PrimitiveArray<Int32>"));
        // 5.5 is no INT: nothing is known.
        assert!(text(cast(col("i"), DataType::Float64).lt(lit(5.5))).starts_with("Known"));
        assert!(text(col("b")).starts_with("Compare { column: 2, comparison: Equal"));
        assert!(text(col("s").like(lit("a%"))).starts_with("Known"));
        assert!(text(col("s").in_list(vec![lit("a"), lit("b")], true)).starts_with("Not(Or("));
        assert!(text(col("s").is_not_null()).starts_with("Not(IsNull"));
    }
}
