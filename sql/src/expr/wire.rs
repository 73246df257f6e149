//! Logical expressions as DataFusion's protobuf messages, and back.
//!
//! The messages and the forms of literals and types in them are DataFusion's own; the walk over the
//! expression is ours, because the crate that has one brings catalogs, listings and file formats along
//! (ADR 8). What an executor never evaluates (subqueries, window and aggregate calls, placeholders) has
//! no form here and is refused on both sides.

use std::sync::Arc;

use datafusion_common::{Column, DataFusionError, Result, ScalarValue};
use datafusion_expr::expr::{Alias, Between, Case, Cast, InList, Like, ScalarFunction, TryCast};
use datafusion_expr::{BinaryExpr, Expr, Operator};
use datafusion_proto_models::datafusion_common::ArrowType;
use datafusion_proto_models::protobuf::logical_expr_node::ExprType;
use datafusion_proto_models::protobuf::{self, LogicalExprNode};

use crate::functions;

type Node = Option<Box<LogicalExprNode>>;

/// The message of an expression.
pub(super) fn to_message(expr: &Expr) -> Result<LogicalExprNode> {
    let expr_type = match expr {
        Expr::Alias(alias) => ExprType::Alias(Box::new(protobuf::AliasNode {
            expr: boxed(&alias.expr)?,
            alias: alias.name.clone(),
            ..Default::default()
        })),
        Expr::Column(column) => ExprType::Column(column.into()),
        Expr::Literal(value, _) => ExprType::Literal(value.try_into()?),
        Expr::BinaryExpr(binary) => ExprType::BinaryExpr(protobuf::BinaryExprNode {
            operands: all(chain(binary))?,
            op: format!("{:?}", binary.op),
        }),
        Expr::Like(like) if like.case_insensitive => ExprType::Ilike(Box::new(protobuf::ILikeNode {
            negated: like.negated,
            expr: boxed(&like.expr)?,
            pattern: boxed(&like.pattern)?,
            escape_char: escape(like),
        })),
        Expr::Like(like) => ExprType::Like(Box::new(protobuf::LikeNode {
            negated: like.negated,
            expr: boxed(&like.expr)?,
            pattern: boxed(&like.pattern)?,
            escape_char: escape(like),
        })),
        Expr::SimilarTo(like) => ExprType::SimilarTo(Box::new(protobuf::SimilarToNode {
            negated: like.negated,
            expr: boxed(&like.expr)?,
            pattern: boxed(&like.pattern)?,
            escape_char: escape(like),
        })),
        Expr::Not(inner) => ExprType::NotExpr(Box::new(protobuf::Not { expr: boxed(inner)? })),
        Expr::IsNull(inner) => ExprType::IsNullExpr(Box::new(protobuf::IsNull { expr: boxed(inner)? })),
        Expr::IsNotNull(inner) => ExprType::IsNotNullExpr(Box::new(protobuf::IsNotNull { expr: boxed(inner)? })),
        Expr::IsTrue(inner) => ExprType::IsTrue(Box::new(protobuf::IsTrue { expr: boxed(inner)? })),
        Expr::IsFalse(inner) => ExprType::IsFalse(Box::new(protobuf::IsFalse { expr: boxed(inner)? })),
        Expr::IsUnknown(inner) => ExprType::IsUnknown(Box::new(protobuf::IsUnknown { expr: boxed(inner)? })),
        Expr::IsNotTrue(inner) => ExprType::IsNotTrue(Box::new(protobuf::IsNotTrue { expr: boxed(inner)? })),
        Expr::IsNotFalse(inner) => ExprType::IsNotFalse(Box::new(protobuf::IsNotFalse { expr: boxed(inner)? })),
        Expr::IsNotUnknown(inner) => ExprType::IsNotUnknown(Box::new(protobuf::IsNotUnknown { expr: boxed(inner)? })),
        Expr::Negative(inner) => ExprType::Negative(Box::new(protobuf::NegativeNode { expr: boxed(inner)? })),
        Expr::Between(between) => ExprType::Between(Box::new(protobuf::BetweenNode {
            expr: boxed(&between.expr)?,
            negated: between.negated,
            low: boxed(&between.low)?,
            high: boxed(&between.high)?,
        })),
        Expr::Case(case) => ExprType::Case(Box::new(protobuf::CaseNode {
            expr: case.expr.as_ref().map_or(Ok(None), |e| boxed(e))?,
            when_then_expr: case.when_then_expr.iter().map(when_then).collect::<Result<_>>()?,
            else_expr: case.else_expr.as_ref().map_or(Ok(None), |e| boxed(e))?,
        })),
        Expr::Cast(cast) => ExprType::Cast(Box::new(protobuf::CastNode {
            expr: boxed(&cast.expr)?,
            arrow_type: Some(cast.field.data_type().try_into()?),
            metadata: cast.field.metadata().clone(),
            nullable: Some(cast.field.is_nullable()),
        })),
        Expr::TryCast(cast) => ExprType::TryCast(Box::new(protobuf::TryCastNode {
            expr: boxed(&cast.expr)?,
            arrow_type: Some(cast.field.data_type().try_into()?),
            metadata: cast.field.metadata().clone(),
            nullable: Some(cast.field.is_nullable()),
        })),
        Expr::InList(list) => ExprType::InList(Box::new(protobuf::InListNode {
            expr: boxed(&list.expr)?,
            list: all(&list.list)?,
            negated: list.negated,
        })),
        Expr::ScalarFunction(call) => ExprType::ScalarUdfExpr(protobuf::ScalarUdfExprNode {
            fun_name: call.func.name().to_owned(),
            args: all(&call.args)?,
            fun_definition: None,
        }),
        other => return Err(refused(&other.variant_name().to_lowercase())),
    };
    Ok(LogicalExprNode { expr_type: Some(expr_type) })
}

/// The expression of a message; functions are those of our registry.
pub(super) fn from_message(node: &LogicalExprNode) -> Result<Expr> {
    let Some(expr_type) = &node.expr_type else { return Err(incomplete()) };
    Ok(match expr_type {
        ExprType::Alias(alias) => Expr::Alias(Alias::new(inner(&alias.expr)?, None::<&str>, &alias.alias)),
        ExprType::Column(column) => Expr::Column(Column::from(column)),
        ExprType::Literal(value) => Expr::Literal(ScalarValue::try_from(value)?, None),
        ExprType::BinaryExpr(binary) => {
            let op = Operator::from_proto_name(&binary.op)
                .ok_or_else(|| DataFusionError::Plan(format!("this version has no operator `{}`", binary.op)))?;
            let operands = every(&binary.operands)?;
            let join = |left, right| Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)));
            if operands.len() < 2 {
                return Err(incomplete());
            }
            operands.into_iter().reduce(join).ok_or_else(incomplete)?
        }
        ExprType::Ilike(like) => Expr::Like(Like::new(
            like.negated,
            part(&like.expr)?,
            part(&like.pattern)?,
            escaped(&like.escape_char)?,
            true,
        )),
        ExprType::Like(like) => Expr::Like(Like::new(
            like.negated,
            part(&like.expr)?,
            part(&like.pattern)?,
            escaped(&like.escape_char)?,
            false,
        )),
        ExprType::SimilarTo(like) => Expr::SimilarTo(Like::new(
            like.negated,
            part(&like.expr)?,
            part(&like.pattern)?,
            escaped(&like.escape_char)?,
            false,
        )),
        ExprType::NotExpr(node) => Expr::Not(part(&node.expr)?),
        ExprType::IsNullExpr(node) => Expr::IsNull(part(&node.expr)?),
        ExprType::IsNotNullExpr(node) => Expr::IsNotNull(part(&node.expr)?),
        ExprType::IsTrue(node) => Expr::IsTrue(part(&node.expr)?),
        ExprType::IsFalse(node) => Expr::IsFalse(part(&node.expr)?),
        ExprType::IsUnknown(node) => Expr::IsUnknown(part(&node.expr)?),
        ExprType::IsNotTrue(node) => Expr::IsNotTrue(part(&node.expr)?),
        ExprType::IsNotFalse(node) => Expr::IsNotFalse(part(&node.expr)?),
        ExprType::IsNotUnknown(node) => Expr::IsNotUnknown(part(&node.expr)?),
        ExprType::Negative(node) => Expr::Negative(part(&node.expr)?),
        ExprType::Between(between) => Expr::Between(Between::new(
            part(&between.expr)?,
            between.negated,
            part(&between.low)?,
            part(&between.high)?,
        )),
        ExprType::Case(case) => {
            let branches = case.when_then_expr.iter().map(|branch| {
                let when = branch.when_expr.as_ref().ok_or_else(incomplete)?;
                let then = branch.then_expr.as_ref().ok_or_else(incomplete)?;
                Ok((Box::new(from_message(when)?), Box::new(from_message(then)?)))
            });
            let branches = branches.collect::<Result<_>>()?;
            Expr::Case(Case::new(optional(&case.expr)?, branches, optional(&case.else_expr)?))
        }
        ExprType::Cast(cast) => {
            let field = cast_field(cast.arrow_type.as_ref(), cast.nullable, &cast.metadata)?;
            Expr::Cast(Cast::new_from_field(part(&cast.expr)?, field))
        }
        ExprType::TryCast(cast) => {
            let field = cast_field(cast.arrow_type.as_ref(), cast.nullable, &cast.metadata)?;
            Expr::TryCast(TryCast::new_from_field(part(&cast.expr)?, field))
        }
        ExprType::InList(list) => Expr::InList(InList::new(part(&list.expr)?, every(&list.list)?, list.negated)),
        ExprType::ScalarUdfExpr(call) => {
            let name = &call.fun_name;
            let function = functions::registry()
                .scalar(name)
                .ok_or_else(|| DataFusionError::Plan(format!("this version has no function `{name}`")))?;
            Expr::ScalarFunction(ScalarFunction::new_udf(function, every(&call.args)?))
        }
        _ => return Err(refused("what it holds")),
    })
}

/// Operands of a left-deep chain of one operator, from left to right: a long sum is a flat message.
fn chain(binary: &BinaryExpr) -> Vec<&Expr> {
    let mut operands = vec![binary.right.as_ref()];
    let mut left = binary.left.as_ref();
    while let Expr::BinaryExpr(next) = left
        && next.op == binary.op
    {
        operands.push(next.right.as_ref());
        left = next.left.as_ref();
    }
    operands.push(left);
    operands.reverse();
    operands
}

fn boxed(expr: &Expr) -> Result<Node> {
    Ok(Some(Box::new(to_message(expr)?)))
}

fn all<'a>(exprs: impl IntoIterator<Item = &'a Expr>) -> Result<Vec<LogicalExprNode>> {
    exprs.into_iter().map(to_message).collect()
}

fn when_then((when, then): &(Box<Expr>, Box<Expr>)) -> Result<protobuf::WhenThen> {
    Ok(protobuf::WhenThen { when_expr: Some(to_message(when)?), then_expr: Some(to_message(then)?) })
}

fn escape(like: &Like) -> String {
    like.escape_char.map(String::from).unwrap_or_default()
}

fn escaped(text: &str) -> Result<Option<char>> {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (escape, None) => Ok(escape),
        (_, Some(_)) => Err(incomplete()),
    }
}

fn inner(node: &Node) -> Result<Expr> {
    from_message(node.as_deref().ok_or_else(incomplete)?)
}

fn part(node: &Node) -> Result<Box<Expr>> {
    inner(node).map(Box::new)
}

fn optional(node: &Node) -> Result<Option<Box<Expr>>> {
    node.as_deref().map(|node| from_message(node).map(Box::new)).transpose()
}

fn every(nodes: &[LogicalExprNode]) -> Result<Vec<Expr>> {
    nodes.iter().map(from_message).collect()
}

fn cast_field(
    arrow_type: Option<&ArrowType>,
    nullable: Option<bool>,
    metadata: &std::collections::HashMap<String, String>,
) -> Result<arrow::datatypes::FieldRef> {
    let data_type: arrow::datatypes::DataType = arrow_type.ok_or_else(incomplete)?.try_into()?;
    let field = arrow::datatypes::Field::new("", data_type, nullable.unwrap_or(true));
    Ok(Arc::new(field.with_metadata(metadata.clone())))
}

fn refused(what: &str) -> DataFusionError {
    DataFusionError::NotImplemented(format!("{what} in an encoded expression"))
}

fn incomplete() -> DataFusionError {
    DataFusionError::Plan("an encoded expression lacks a part".to_owned())
}
