//! Encoded expressions: how the planner hands an expression to an executor.
//!
//! An expression crosses the border as the protobuf form of a DataFusion logical expression over the
//! *unqualified* column names of one schema (names are unique within every schema of a graph).
//! Functions travel by name and are resolved by our own registry on both sides, so that an executor
//! never runs anything the planner does not know. The planner encodes; operators call [`physical`] or
//! [`decode`] once when they are built, never per batch.
//!
//! What must never happen: a decoder that overflows its stack or allocates without bound on hostile
//! bytes. Size is checked first, nesting by the protobuf decoder's own recursion limit, and the length
//! of flat chains on a thread with a large stack before the expression is handed out.

mod checked;
mod coalesced;
mod guarded;
mod lengths;
mod wire;

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column, DFSchema, DataFusionError};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::{AggregateUDF, Expr, ExprSchemable};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::planner::create_physical_expr;
use datafusion_proto_models::protobuf::LogicalExprNode;
use datafusion_sql::unparser::expr_to_sql;
use prost::Message;
use qanat_proto::error::{Code, Error, Result};
use qanat_proto::graph::EncodedExpr;
use qanat_proto::limits::{SQL_CHAIN_MAX, SQL_DEPTH_MAX, SQL_TEXT_BYTES_MAX};

use crate::functions;
use crate::parse::on_deep_stack;

/// Bytes of one encoded expression: a script's text limit with room for the encoding's overhead.
const ENCODED_BYTES_MAX: usize = 4 * SQL_TEXT_BYTES_MAX;
/// Levels of a decoded expression: a flat chain is a left-deep tree.
const LEVELS_MAX: usize = SQL_CHAIN_MAX + SQL_DEPTH_MAX;
/// Up to this size no expression can be deep enough to need more than an ordinary stack.
const SMALL_BYTES: usize = 1 << 10;

/// Encodes `expr`, which must be typed (coerced) over `schema`. Qualifiers are dropped.
///
/// # Errors
/// E0107 if it is nested too deeply, E0102 if it holds what cannot be encoded (a subquery).
pub fn encode(expr: &Expr, schema: &DFSchema) -> Result<EncodedExpr> {
    if levels(expr) > LEVELS_MAX {
        return Err(Error::new(Code::SqlLimit, format!("an expression has more than {LEVELS_MAX} levels"))
            .hint("split it into several columns of a view"));
    }
    let bare = unqualified(expr)?;
    if bare.exists(|e| Ok(matches!(e, Expr::Placeholder(_)))).unwrap_or(false) {
        return Err(Error::new(Code::SqlUnsupported, format!("`{bare}` holds a parameter that nobody gives a value"))
            .hint("write ${NAME} and run with `--set NAME=value`"));
    }
    // The type is asked for its error: an expression that names a missing column must not leave the planner.
    bare.get_type(&DFSchema::try_from(Arc::clone(schema.inner())).map_err(|e| internal(&e))?).map_err(|e| {
        Error::internal(format!("expression `{bare}` does not fit its schema: {}", e.strip_backtrace()))
    })?;
    let node = wire::to_message(&bare).map_err(|e| {
        Error::new(
            Code::SqlUnsupported,
            format!("expression `{bare}` cannot be sent to an executor: {}", e.strip_backtrace()),
        )
    })?;
    let bytes = node.encode_to_vec();
    // Whatever is sent must also arrive: the decoder has a nesting limit of its own.
    if bytes.len() > ENCODED_BYTES_MAX || LogicalExprNode::decode(bytes.as_slice()).is_err() {
        return Err(Error::new(Code::SqlLimit, "an expression is nested too deeply")
            .hint("split it into several columns of a view"));
    }
    Ok(EncodedExpr { bytes, text: sql_text(&bare) })
}

/// An expression as SQL, for people; DataFusion's own notation where it has no SQL form.
pub(crate) fn sql_text(expr: &Expr) -> String {
    match expr_to_sql(expr) {
        Ok(sql) => sql.to_string(),
        Err(_) => expr.human_display().to_string(),
    }
}

/// Decodes an expression over `schema`.
///
/// # Errors
/// E0107 for too many bytes or levels, E0105 for a function this version does not know, E0503 for bytes
/// that are no expression.
pub fn decode(encoded: &EncodedExpr, schema: &SchemaRef) -> Result<Expr> {
    let bytes = encoded.bytes.as_slice();
    if bytes.len() > ENCODED_BYTES_MAX {
        return Err(Error::new(Code::SqlLimit, format!("an encoded expression has {} bytes", bytes.len())));
    }
    if bytes.len() <= SMALL_BYTES {
        return decode_checked(bytes, schema);
    }
    on_deep_stack(|| decode_checked(bytes, schema))
}

/// Decodes an expression without a schema to hold it against: for EXPLAIN, which only looks at it.
///
/// # Errors
/// As [`decode`].
pub(crate) fn decode_loose(encoded: &EncodedExpr) -> Result<Expr> {
    on_deep_stack(|| {
        let node = LogicalExprNode::decode(encoded.bytes.as_slice())
            .map_err(|e| Error::internal(format!("an encoded expression cannot be read: {e}")))?;
        wire::from_message(&node).map_err(|e| Error::internal(e.to_string()))
    })
}

/// The physical expression that evaluates `encoded` over batches of `schema`.
///
/// # Errors
/// As [`decode`]; E0106 if it does not fit the schema.
pub fn physical(encoded: &EncodedExpr, schema: &SchemaRef) -> Result<Arc<dyn PhysicalExpr>> {
    let expr = decode(encoded, schema)?;
    let build = || physical_expr(&expr, schema);
    if encoded.bytes.len() <= SMALL_BYTES { build() } else { on_deep_stack(build) }
}

/// The physical form of a logical expression over unqualified columns of `schema`.
///
/// # Errors
/// E0106 if it does not fit the schema.
pub fn physical_expr(expr: &Expr, schema: &SchemaRef) -> Result<Arc<dyn PhysicalExpr>> {
    let df_schema = DFSchema::try_from(Arc::clone(schema)).map_err(|e| internal(&e))?;
    create_physical_expr(expr, &df_schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())
        .and_then(|expr| lengths::shorten(expr, schema))
        .and_then(guarded::guard)
        .and_then(|expr| checked::check(expr, schema))
        .map_err(|e| Error::new(Code::TypeMismatch, format!("could not plan `{expr}`: {}", e.strip_backtrace())))
}

/// Type and nullability of an encoded expression over `schema`.
///
/// # Errors
/// As [`decode`].
pub fn output_type(encoded: &EncodedExpr, schema: &SchemaRef) -> Result<(DataType, bool)> {
    let expr = decode(encoded, schema)?;
    let df_schema = DFSchema::try_from(Arc::clone(schema)).map_err(|e| internal(&e))?;
    let (_, field) = expr.to_field(&df_schema).map_err(|e| internal(&e))?;
    Ok((field.data_type().clone(), field.is_nullable()))
}

/// The aggregate function of this registry name.
///
/// # Errors
/// E0105 if there is none.
pub fn aggregate(name: &str) -> Result<Arc<AggregateUDF>> {
    functions::registry().aggregate(name).ok_or_else(|| unknown_function(name))
}

fn decode_checked(bytes: &[u8], schema: &SchemaRef) -> Result<Expr> {
    let node = LogicalExprNode::decode(bytes)
        .map_err(|e| Error::internal(format!("an encoded expression cannot be read: {e}")))?;
    let expr = wire::from_message(&node)
        .map_err(|e| Error::new(Code::UnknownFunction, format!("an encoded expression cannot be used: {e}")))?;
    if levels(&expr) > LEVELS_MAX {
        return Err(Error::new(Code::SqlLimit, format!("an expression has more than {LEVELS_MAX} levels")));
    }
    let mut missing = None;
    expr.apply(|e| {
        if let Expr::Column(column) = e
            && schema.column_with_name(&column.name).is_none()
        {
            missing = Some(column.name.clone());
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map_err(|e| internal(&e))?;
    match missing {
        Some(name) => {
            Err(Error::new(Code::UnknownColumn, format!("an expression names `{name}`, which its input lacks")))
        }
        None => Ok(expr),
    }
}

/// Height of an expression's tree.
pub(crate) fn levels(expr: &Expr) -> usize {
    let mut deepest = 0;
    // Children in a stack of our own: the tree may be as deep as its bytes allow.
    let mut open = vec![(expr, 1_usize)];
    while let Some((next, level)) = open.pop() {
        deepest = deepest.max(level);
        let collected = next.apply_children(|child| {
            open.push((child, level + 1));
            Ok(TreeNodeRecursion::Continue)
        });
        debug_assert!(collected.is_ok(), "collecting children does not fail");
    }
    deepest
}

fn unqualified(expr: &Expr) -> Result<Expr> {
    expr.clone()
        .transform(|e| match e {
            Expr::Column(column) if column.relation.is_some() || !column.spans.0.is_empty() => {
                Ok(Transformed::yes(Expr::Column(Column::new_unqualified(column.name))))
            }
            other => Ok(Transformed::no(other)),
        })
        .map(|t| t.data)
        .map_err(|e| internal(&e))
}

fn internal(error: &DataFusionError) -> Error {
    Error::internal(error.strip_backtrace())
}

fn unknown_function(name: &str) -> Error {
    Error::new(Code::UnknownFunction, format!("this version has no function `{name}`"))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, Schema};
    use datafusion_common::ScalarValue;
    use datafusion_expr::expr::Like;
    use datafusion_expr::{col, lit};

    use super::*;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Utf8, true)]))
    }

    fn round(expr: &Expr) -> Result<Expr> {
        let schema = schema();
        let scope = DFSchema::try_from(Arc::clone(&schema)).expect("a schema");
        decode(&encode(expr, &scope)?, &schema)
    }

    #[test]
    fn expressions_round_trip() {
        let upper = functions::registry().scalar("upper").expect("a function");
        let number = |n: i64| lit(n);
        let mut case = datafusion_expr::when(col("a").gt(number(1)), lit("x")).when(col("a").is_null(), col("b"));
        for expr in [
            col("a") + number(1),
            col("a") + number(1) + number(2) * (number(3) - (col("a") - number(4))),
            col("a").lt(number(3)).and(col("b").eq(lit("y"))).or(!col("a").is_null()),
            col("b").like(lit("x%")),
            col("b").not_ilike(lit("x%")),
            Expr::SimilarTo(Like::new(true, Box::new(col("b")), Box::new(lit("a|b")), Some('é'), false)),
            upper.call(vec![col("b")]).is_not_null(),
            col("a").gt(number(0)).is_true(),
            col("a").gt(number(0)).is_not_false(),
            col("a").gt(number(0)).is_unknown(),
            col("a").gt(number(0)).is_not_unknown(),
            -col("a"),
            col("a").between(number(1), col("a")),
            col("a").not_between(number(1), number(2)),
            col("a").in_list(vec![number(1), number(7)], true),
            case.otherwise(lit("z")).expect("a case"),
            datafusion_expr::case(col("a")).when(number(1), lit("x")).end().expect("a case"),
            datafusion_expr::cast(col("b"), DataType::Decimal128(10, 2)),
            datafusion_expr::try_cast(col("b"), DataType::Date32),
            lit(ScalarValue::TimestampMillisecond(Some(5), None)).alias("t"),
            lit(ScalarValue::Null),
            lit(ScalarValue::List(ScalarValue::new_list_nullable(&[ScalarValue::Int32(Some(1))], &DataType::Int32))),
        ] {
            assert_eq!(round(&expr).expect("decodes"), expr);
        }
    }

    #[test]
    fn a_missing_column_is_an_error_on_both_sides() {
        assert!(round(&col("zz")).is_err());
        let wide = Arc::new(Schema::new(vec![Field::new("zz", DataType::Int64, true)]));
        let scope = DFSchema::try_from(wide).expect("a schema");
        let encoded = encode(&col("zz"), &scope).expect("encodes");
        assert_eq!(decode(&encoded, &schema()).expect_err("no such column").code(), Code::UnknownColumn);
    }

    #[test]
    fn a_chain_beyond_the_limit_is_refused() {
        let chain = |terms: usize| (1..terms).fold(col("a"), |sum, _| sum + col("a"));
        // The planner encodes on a deep stack; so does this.
        on_deep_stack(|| {
            round(&chain(SQL_CHAIN_MAX))?;
            assert_eq!(round(&chain(5_000)).expect_err("too long").code(), Code::SqlLimit);
            Ok(())
        })
        .expect("within the limit");
    }

    #[test]
    fn hostile_bytes_are_errors() {
        for seed in 0_u8..200 {
            let bytes: Vec<u8> =
                (0..usize::from(seed)).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect();
            let encoded = EncodedExpr { bytes, text: String::new() };
            // Any verdict will do, as long as it is one.
            let _ = physical(&encoded, &schema());
        }
        let nested: Vec<u8> = (0..4_000).flat_map(|_| [0x0a, 0x7f]).collect();
        assert!(decode(&EncodedExpr { bytes: nested, text: String::new() }, &schema()).is_err());
    }
}
