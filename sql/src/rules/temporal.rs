//! `FOR SYSTEM_TIME AS OF x`: `x` must be a processing-time column of the other side of its join.
//!
//! Checked before projections are pruned: afterwards the column may be gone.

use datafusion_common::tree_node::TreeNodeRecursion;
use datafusion_common::{Column, DFSchema, TableReference};
use datafusion_expr::{Expr, LogicalPlan};
use qanat_proto::error::{Code, Error, Place, Result};

use crate::catalog::BoundColumnKind;
use crate::plan::table::bound_table;
use crate::plan::temporal::Temporal;

/// # Errors
/// E0104 for an unknown column, E0109 or E0102 for one of another kind of time.
pub(crate) fn check(plan: &LogicalPlan) -> Result<()> {
    let mut failure = None;
    let visited = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Join(join) = node
            && let Some(temporal) = temporal_of(&join.right)
            && let Err(error) = check_join(&join.left, temporal)
        {
            failure = Some(error);
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(visited.is_ok(), "a visit that only looks does not fail");
    failure.map_or(Ok(()), Err)
}

fn temporal_of(plan: &LogicalPlan) -> Option<&Temporal> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => temporal_of(&alias.input),
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref::<Temporal>(),
        _ => None,
    }
}

/// What a column is, as far as it can be followed down.
enum Origin {
    Proctime,
    Rowtime,
    Other,
}

fn check_join(left: &LogicalPlan, temporal: &Temporal) -> Result<()> {
    let (line, column) = temporal.place;
    let place = Place::Sql { line, column };
    let found = match temporal.time.as_slice() {
        [] => return Ok(()),
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
        Origin::Proctime => Ok(()),
        Origin::Rowtime => {
            Err(Error::new(Code::SqlUnsupported, "a join with a table's version at event time is not supported yet")
                .at(place)
                .hint("declare a column `proctime AS PROCTIME()` in the stream and write FOR SYSTEM_TIME AS OF it"))
        }
        Origin::Other => Err(Error::new(Code::TimeAttribute, format!("`{text}` is no processing-time column"))
            .at(place)
            .hint("declare a column `proctime AS PROCTIME()` in the stream and write FOR SYSTEM_TIME AS OF it")),
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
        // Window columns stand behind the input's.
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
