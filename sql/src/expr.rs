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

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column, DFSchema, DataFusionError, TableReference};
use datafusion_execution::TaskContext;
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::{
    AggregateUDF, Expr, ExprSchemable, Extension, HigherOrderUDF, LogicalPlan, ScalarUDF, WindowUDF,
};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::planner::create_physical_expr;
use datafusion_proto::logical_plan::LogicalExtensionCodec;
use datafusion_proto::logical_plan::from_proto::parse_expr;
use datafusion_proto::logical_plan::to_proto::serialize_expr;
use datafusion_proto::protobuf::LogicalExprNode;
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
    // The type is asked for its error: an expression that names a missing column must not leave the planner.
    bare.get_type(&DFSchema::try_from(Arc::clone(schema.inner())).map_err(|e| internal(&e))?).map_err(|e| {
        Error::internal(format!("expression `{bare}` does not fit its schema: {}", e.strip_backtrace()))
    })?;
    let node = serialize_expr(&bare, &Codec).map_err(|e| {
        Error::new(Code::SqlUnsupported, format!("expression `{bare}` cannot be sent to an executor: {e}"))
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
        parse_expr(&node, &TaskContext::default(), &Codec).map_err(|e| Error::internal(e.to_string()))
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
    let expr = parse_expr(&node, &TaskContext::default(), &Codec)
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

/// Resolves functions by our registry; everything else an expression might carry is refused.
#[derive(Debug)]
struct Codec;

impl Codec {
    fn refuse<T>(what: &str) -> datafusion_common::Result<T> {
        Err(DataFusionError::NotImplemented(format!("{what} in an encoded expression")))
    }

    fn unknown<T>(name: &str) -> datafusion_common::Result<T> {
        Err(DataFusionError::Plan(format!("this version has no function `{name}`")))
    }
}

impl LogicalExtensionCodec for Codec {
    fn try_decode(&self, _: &[u8], _: &[LogicalPlan], _: &TaskContext) -> datafusion_common::Result<Extension> {
        Self::refuse("a plan node")
    }

    fn try_encode(&self, _: &Extension, _: &mut Vec<u8>) -> datafusion_common::Result<()> {
        Self::refuse("a plan node")
    }

    fn try_decode_table_provider(
        &self,
        _: &[u8],
        _: &TableReference,
        _: SchemaRef,
        _: &TaskContext,
    ) -> datafusion_common::Result<Arc<dyn datafusion_catalog::TableProvider>> {
        Self::refuse("a table")
    }

    fn try_encode_table_provider(
        &self,
        _: &TableReference,
        _: Arc<dyn datafusion_catalog::TableProvider>,
        _: &mut Vec<u8>,
    ) -> datafusion_common::Result<()> {
        Self::refuse("a table")
    }

    fn try_decode_udf(&self, name: &str, _: &[u8]) -> datafusion_common::Result<Arc<ScalarUDF>> {
        functions::registry().scalar(name).map_or_else(|| Self::unknown(name), Ok)
    }

    fn try_decode_udaf(&self, name: &str, _: &[u8]) -> datafusion_common::Result<Arc<AggregateUDF>> {
        functions::registry().aggregate(name).map_or_else(|| Self::unknown(name), Ok)
    }

    fn try_decode_udwf(&self, name: &str, _: &[u8]) -> datafusion_common::Result<Arc<WindowUDF>> {
        Self::unknown(name)
    }

    fn try_decode_higher_order_function(&self, name: &str, _: &[u8]) -> datafusion_common::Result<Arc<HigherOrderUDF>> {
        Self::unknown(name)
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, Schema};
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
        for expr in [col("a") + lit(1_i64), col("b").like(lit("x%")), upper.call(vec![col("b")]).is_not_null()] {
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
