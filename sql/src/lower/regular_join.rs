//! A join without a window: of all rows that were there and will come.

use std::sync::Arc;

use datafusion_common::NullEquality;
use datafusion_expr::Expr;
use datafusion_expr::logical_plan::Join;
use qanat_proto::changelog::{with_kinds, without_kinds};
use qanat_proto::error::{Place, Result};
use qanat_proto::graph::{JoinKind, JoinNode, OperatorKind};

use super::Lowering;
use super::graph::Port;
use super::join::{both, check_null_aware, condition};
use super::relation::{Output, Relation};

impl Lowering<'_> {
    pub(super) fn regular_join(
        &mut self,
        join: &Join,
        kind: JoinKind,
        left: Relation,
        right: Relation,
        place: Option<Place>,
    ) -> Result<Relation> {
        let keys: Vec<&(Expr, Expr)> = join.on.iter().collect();
        check_null_aware(join, &keys, place)?;
        let (left_exprs, right_exprs): (Vec<&Expr>, Vec<&Expr>) = join.on.iter().map(|(l, r)| (l, r)).unzip();
        let hints = [left.hint, right.hint];
        let mut names = super::relation::UniqueNames::default();
        let (left, left_keys) = self.join_side(left, &left_exprs, join.left.schema(), &mut names)?;
        let (right, right_keys) = self.join_side(right, &right_exprs, join.right.schema(), &mut names)?;

        let (left_rows, right_rows) = (without_kinds(&left.base), without_kinds(&right.base));
        let filter = condition(join, &left, &right)?;
        let mut output = both(&left_rows, &right_rows, kind)?;
        // A row without a match is taken back when one comes.
        if kind != JoinKind::Inner || left.is_changelog() || right.is_changelog() {
            output = with_kinds(&output);
        }
        let ports = vec![Port::hash(&left.inputs, left_keys.clone()), Port::hash(&right.inputs, right_keys.clone())];
        let node = JoinNode {
            kind,
            on: left_keys.into_iter().zip(right_keys).collect(),
            null_equals_null: join.null_equality == NullEquality::NullEqualsNull,
            filter,
        };
        let named = (format!("Join({kind:?})"), OperatorKind::Join(node));
        let id = self.add_keeping(named, &output, ports, hints)?;
        let mut columns = left.columns;
        if !matches!(kind, JoinKind::LeftSemi | JoinKind::LeftAnti) {
            columns.extend(right.columns);
        }
        let mut columns: Vec<Output> = columns;
        for (out, field) in columns.iter_mut().zip(join.schema.fields()) {
            out.field = Arc::clone(field);
            // A row may come long after the time that it has, and windows of the two sides are not the same.
            out.time = super::relation::TimeAttribute::None;
        }
        Ok(Relation::of(id, output, columns))
    }
}
