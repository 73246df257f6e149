//! `FOR SYSTEM_TIME AS OF x`: `x` must be a time column of the other side of its join. Of processing time the join is a
//! lookup; of event time it is one with the versions of the table, and its condition gets what is true of each version that
//! holds: that it began before.
//!
//! Done before projections are pruned: afterwards the columns may be gone.

use std::sync::Arc;

use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, DFSchema, DataFusionError, TableReference};
use datafusion_expr::logical_plan::{Extension, Join};
use datafusion_expr::{Expr, LogicalPlan};
use qanat_proto::error::{Code, Error, Place, Result};

use crate::catalog::BoundColumnKind;
use crate::plan::table::bound_table;
use crate::plan::temporal::Temporal;

/// # Errors
/// E0104 for an unknown column, E0109 or E0102 for one of another kind of time, and for a table that has no versions.
pub(crate) fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut failure = None;
    let rewritten = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Join(join) = node else { return Ok(Transformed::no(node)) };
        let Some(temporal) = temporal_of(&join.right) else { return Ok(Transformed::no(LogicalPlan::Join(join))) };
        match as_of(&join, temporal) {
            Ok(None) => Ok(Transformed::no(LogicalPlan::Join(join))),
            Ok(Some(began)) => {
                let right = with_versions(join.right.as_ref())?;
                let filter = join.filter.iter().cloned().chain([began]).reduce(Expr::and);
                Ok(Transformed::yes(LogicalPlan::Join(Join { right: Arc::new(right), filter, ..join })))
            }
            Err(error) => {
                failure = Some(error);
                Ok(Transformed::no(LogicalPlan::Join(join)))
            }
        }
    });
    match failure {
        Some(error) => Err(error),
        None => Ok(rewritten.map_err(|e| crate::plan::failure::from_datafusion(&e))?.data),
    }
}

fn temporal_of(plan: &LogicalPlan) -> Option<&Temporal> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => temporal_of(&alias.input),
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref::<Temporal>(),
        _ => None,
    }
}

/// The table as one of versions.
fn with_versions(plan: &LogicalPlan) -> std::result::Result<LogicalPlan, DataFusionError> {
    let marked = plan.clone().transform_up(|node| {
        let LogicalPlan::Extension(extension) = &node else { return Ok(Transformed::no(node)) };
        let Some(temporal) = extension.node.as_any().downcast_ref::<Temporal>() else {
            return Ok(Transformed::no(node));
        };
        let temporal = Temporal { is_event: true, ..temporal.clone() };
        Ok(Transformed::yes(LogicalPlan::Extension(Extension { node: Arc::new(temporal) })))
    });
    marked.map(|marked| marked.data)
}

/// What a column is, as far as it can be followed down.
enum Origin {
    Proctime,
    Rowtime,
    Other,
}

/// What is true of the versions that a join is about; None if it is a lookup.
fn as_of(join: &Join, temporal: &Temporal) -> Result<Option<Expr>> {
    let left = join.left.as_ref();
    let (line, column) = temporal.place;
    let place = Place::Sql { line, column };
    let found = match temporal.time.as_slice() {
        [] => return Ok(None),
        [name] => find(left.schema(), None, name),
        [table, name] => find(left.schema(), Some(table), name),
        _ => None,
    };
    let text = temporal.time.join(".");
    let Some(index) = found else {
        return Err(
            Error::new(Code::UnknownColumn, format!("no column `{text}` in the tables before this one")).at(place)
        );
    };
    match origin(left, index) {
        Origin::Proctime => Ok(None),
        Origin::Rowtime => {
            let right = join.right.as_ref();
            let time = (0..right.schema().fields().len()).find(|at| matches!(origin(right, *at), Origin::Rowtime));
            let Some(time) = time else {
                let message = "a table has versions at event time only if it has a watermark";
                return Err(Error::new(Code::TimeAttribute, message).at(place).hint(
                    "declare `WATERMARK FOR` its time and its PRIMARY KEY; or look it up as it is: FOR SYSTEM_TIME AS OF \
                     a column `proctime AS PROCTIME()` of the stream",
                ));
            };
            let column = |schema: &DFSchema, index: usize| Expr::Column(Column::from(schema.qualified_field(index)));
            Ok(Some(column(left.schema(), index).gt_eq(column(right.schema(), time))))
        }
        Origin::Other => Err(Error::new(Code::TimeAttribute, format!("`{text}` is no time column"))
            .at(place)
            .hint("FOR SYSTEM_TIME AS OF takes the column of the stream's watermark, or one `proctime AS PROCTIME()`")),
    }
}

fn find(schema: &DFSchema, table: Option<&str>, name: &str) -> Option<usize> {
    match table {
        Some(table) => schema.index_of_column(&Column::new(Some(TableReference::bare(table)), name)).ok(),
        None => schema.fields().iter().position(|f| f.name() == name),
    }
}

fn origin(plan: &LogicalPlan, index: usize) -> Origin {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let position = scan.projection.as_ref().map_or(Some(index), |p| p.get(index).copied());
            let Ok(bound) = bound_table(&scan.source) else { return Origin::Other };
            let Some(column) = position.and_then(|position| bound.table.columns.get(position)) else {
                return Origin::Other;
            };
            if bound.table.watermark.as_ref().is_some_and(|w| w.column == column.name()) {
                return Origin::Rowtime;
            }
            match &column.kind {
                BoundColumnKind::Computed(expr) if is_proctime(expr) => Origin::Proctime,
                _ => Origin::Other,
            }
        }
        LogicalPlan::SubqueryAlias(alias) => origin(&alias.input, index),
        LogicalPlan::Filter(filter) => origin(&filter.input, index),
        LogicalPlan::Projection(projection) => match projection.expr.get(index) {
            Some(expr) => origin_of(expr, &projection.input),
            None => Origin::Other,
        },
        LogicalPlan::Join(join) => {
            let width = join.left.schema().fields().len();
            if index < width { origin(&join.left, index) } else { origin(&join.right, index - width) }
        }
        // Window columns stand behind the input's, and a marker has no others.
        LogicalPlan::Extension(extension) => match extension.node.inputs().as_slice() {
            [input] if index < input.schema().fields().len() => origin(input, index),
            _ => Origin::Other,
        },
        _ => Origin::Other,
    }
}

fn origin_of(expr: &Expr, input: &LogicalPlan) -> Origin {
    match expr {
        Expr::Alias(alias) => origin_of(&alias.expr, input),
        Expr::Column(column) => match input.schema().index_of_column(column) {
            Ok(index) => origin(input, index),
            Err(_) => Origin::Other,
        },
        other if is_proctime(other) => Origin::Proctime,
        _ => Origin::Other,
    }
}

fn is_proctime(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(function) if function.name().eq_ignore_ascii_case("proctime"))
}
