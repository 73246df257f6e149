//! `AND` and `OR` that look at their right side only in the rows that the left one has not decided.
//!
//! `b <> 0 AND a / b > 1` must not fail where `b` is 0. DataFusion's operators look at the right side of a
//! whole batch, or not at all, as the batch happens to be; so a row could fail beside its neighbours and pass
//! alone. Only where the right side can fail is the operator replaced: the others stay as fast as they are. So it is
//! with `COALESCE` ([`super::coalesced`]).

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray};
use arrow::compute::{and_kleene, or_kleene};
use arrow::datatypes::{DataType, Schema};
use arrow::record_batch::RecordBatch;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DataFusionError, Result};
use datafusion_expr::{ColumnarValue, Operator};
use datafusion_physical_expr::expressions::{
    BinaryExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NotExpr,
};
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use super::coalesced::Coalesced;
use crate::functions::conditional::COALESCE;
use crate::rules::compares;

/// Replaces each `AND` and `OR` whose right side can fail, and each `COALESCE` with a later argument that can.
pub(super) fn guard(expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
    let guarded = expr.transform_up(|expr| {
        if let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>().filter(|call| call.fun().name() == COALESCE) {
            let can_fail = call.args().iter().skip(1).any(|arg| !cannot_fail(arg));
            return Ok(if can_fail { Transformed::yes(Coalesced::of(call)) } else { Transformed::no(expr) });
        }
        let Some(binary) = expr.downcast_ref::<BinaryExpr>() else { return Ok(Transformed::no(expr)) };
        let is_or = match binary.op() {
            Operator::And => false,
            Operator::Or => true,
            _ => return Ok(Transformed::no(expr)),
        };
        if cannot_fail(binary.right()) {
            return Ok(Transformed::no(expr));
        }
        let guarded = Guarded { left: Arc::clone(binary.left()), is_or, right: Arc::clone(binary.right()) };
        Ok(Transformed::yes(Arc::new(guarded) as Arc<dyn PhysicalExpr>))
    })?;
    Ok(guarded.data)
}

/// Whether `expr` has a value in every row. Casts and calls may not.
fn cannot_fail(expr: &Arc<dyn PhysicalExpr>) -> bool {
    if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
        let is_safe = binary.op().is_logic_operator() || compares(*binary.op());
        return is_safe && cannot_fail(binary.left()) && cannot_fail(binary.right());
    }
    let is_plain = expr.is::<Column>()
        || expr.is::<Literal>()
        || expr.is::<NotExpr>()
        || expr.is::<IsNullExpr>()
        || expr.is::<IsNotNullExpr>()
        || expr.is::<InListExpr>()
        || expr.downcast_ref::<LikeExpr>().is_some_and(|like| like.pattern().is::<Literal>());
    is_plain && expr.children().into_iter().all(cannot_fail)
}

#[derive(Debug)]
struct Guarded {
    left: Arc<dyn PhysicalExpr>,
    is_or: bool,
    right: Arc<dyn PhysicalExpr>,
}

impl PartialEq for Guarded {
    fn eq(&self, other: &Self) -> bool {
        self.is_or == other.is_or && self.left.eq(&other.left) && self.right.eq(&other.right)
    }
}

impl Eq for Guarded {}

impl Hash for Guarded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.left.hash(state);
        self.is_or.hash(state);
        self.right.hash(state);
    }
}

impl Guarded {
    fn name(&self) -> &'static str {
        if self.is_or { "OR" } else { "AND" }
    }
}

impl fmt::Display for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} {} {})", self.left, self.name(), self.right)
    }
}

fn booleans(value: ColumnarValue, rows: usize) -> Result<BooleanArray> {
    let array = value.into_array(rows)?;
    let not_boolean = || DataFusionError::Internal(format!("{} is not BOOLEAN", array.data_type()));
    array.as_boolean_opt().cloned().ok_or_else(not_boolean)
}

impl PhysicalExpr for Guarded {
    fn data_type(&self, _input_schema: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, input_schema: &Schema) -> Result<bool> {
        Ok(self.left.nullable(input_schema)? || self.right.nullable(input_schema)?)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let left = booleans(self.left.evaluate(batch)?, batch.num_rows())?;
        // A row that is true decides OR, one that is false AND; one that is NULL neither.
        let open: BooleanArray = left.iter().map(|value| Some(value != Some(self.is_or))).collect();
        if !open.has_true() {
            return Ok(ColumnarValue::Array(Arc::new(left)));
        }
        let right = booleans(self.right.evaluate_selection(batch, &open)?, batch.num_rows())?;
        let both = if self.is_or { or_kleene(&left, &right) } else { and_kleene(&left, &right) };
        Ok(ColumnarValue::Array(Arc::new(both?)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.left, &self.right]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        match <[Arc<dyn PhysicalExpr>; 2]>::try_from(children) {
            Ok([left, right]) => Ok(Arc::new(Self { left, is_or: self.is_or, right })),
            Err(_) => Err(DataFusionError::Internal(format!("{} has two sides", self.name()))),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.left.fmt_sql(f)?;
        write!(f, " {} ", self.name())?;
        self.right.fmt_sql(f)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int32Array;
    use arrow::datatypes::Field;
    use datafusion_expr::{Expr, col, lit};

    use super::super::physical_expr;
    use super::*;

    fn evaluate(expr: &Expr) -> Result<Vec<Option<bool>>> {
        let schema =
            Arc::new(Schema::new(vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Int32, true)]));
        let a = Int32Array::from(vec![Some(10), Some(10), Some(1), None, Some(4)]);
        let b = Int32Array::from(vec![Some(0), Some(5), Some(2), Some(0), Some(1)]);
        let rows = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(a), Arc::new(b)]).expect("rows");
        let value = physical_expr(expr, &schema).expect("an expression").evaluate(&rows)?;
        Ok(booleans(value, rows.num_rows())?.iter().collect())
    }

    #[test]
    fn the_right_side_is_looked_at_where_the_left_one_has_not_decided() {
        let quotient = || (col("a") / col("b")).gt(lit(1));
        let and = col("b").not_eq(lit(0)).and(quotient());
        assert_eq!(
            evaluate(&and).expect("no division by zero"),
            [Some(false), Some(true), Some(false), Some(false), Some(true)]
        );
        let or = col("b").eq(lit(0)).or(quotient());
        assert_eq!(
            evaluate(&or).expect("no division by zero"),
            [Some(true), Some(true), Some(false), Some(true), Some(true)]
        );
        assert!(evaluate(&quotient().and(col("b").not_eq(lit(0)))).is_err());
    }

    #[test]
    fn a_left_side_that_is_null_has_not_decided() {
        let and = col("a").gt(lit(3)).and((lit(8) / (col("b") + lit(1))).gt(lit(7)));
        assert_eq!(evaluate(&and).expect("values"), [Some(true), Some(false), Some(false), None, Some(false)]);
    }
}
