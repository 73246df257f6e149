//! A join with the versions of a table: `JOIN t FOR SYSTEM_TIME AS OF s.ts ON s.key = t.key`.

use std::sync::Arc;

use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, DataFusionError, JoinType, NullEquality};
use datafusion_expr::logical_plan::{Join, TableScan};
use datafusion_expr::utils::split_conjunction;
use datafusion_expr::{BinaryExpr, Expr, LogicalPlan, Operator};
use qanat_proto::changelog::SourceChangelog;
use qanat_proto::changelog::without_kinds;
use qanat_proto::connector::TableDescriptor;
use qanat_proto::error::{Code, Error, Place, Result};
use qanat_proto::graph::{JoinKind, OperatorKind, TemporalJoinNode};

use super::Lowering;
use super::graph::Port;
use super::join::{both, condition_with};
use super::refuse::{self, placed};
use super::relation::{Output, Relation, TimeAttribute, UniqueNames, column, internal};
use crate::plan::table::bound_table;
use crate::plan::temporal::Temporal;
use crate::rules::scalar_subqueries::is_one_to_one;

/// What a join is to read versions of, if it is asked to.
pub(super) fn versions_of(join: &Join) -> Option<&LogicalPlan> {
    let mut plan = join.right.as_ref();
    loop {
        match plan {
            LogicalPlan::Extension(extension) => {
                let temporal = extension.node.as_any().downcast_ref::<Temporal>()?;
                return temporal.is_event.then_some(&temporal.input);
            }
            LogicalPlan::SubqueryAlias(_) | LogicalPlan::Projection(_) | LogicalPlan::Filter(_) => {
                plan = *plan.inputs().first()?;
            }
            _ => return None,
        }
    }
}

/// The scan of a table, below its computed columns.
fn scan_of(plan: &LogicalPlan) -> Option<&TableScan> {
    match plan {
        LogicalPlan::TableScan(scan) => Some(scan),
        LogicalPlan::SubqueryAlias(alias) => scan_of(&alias.input),
        LogicalPlan::Projection(projection) => scan_of(&projection.input),
        _ => None,
    }
}

/// The plan without its markers.
fn unmarked(plan: &LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.clone().transform_up(|node| match &node {
        LogicalPlan::Extension(extension) => match extension.node.as_any().downcast_ref::<Temporal>() {
            Some(temporal) => Ok(Transformed::yes(temporal.input.clone())),
            None => Ok(Transformed::no(node)),
        },
        _ => Ok(Transformed::no(node)),
    });
    Ok(plan.map_err(|e| internal(&e))?.data)
}

impl Lowering<'_> {
    /// # Errors
    /// E0102 for what cannot be joined by versions, E0109 for a table that has none.
    pub(super) fn temporal_join(
        &mut self,
        join: &Join,
        versions: &LogicalPlan,
        place: Option<Place>,
    ) -> Result<Relation> {
        let refused =
            |code: Code, message: String, hint: &str| Err(placed(Error::new(code, message).hint(hint), place.clone()));
        let kind = match join.join_type {
            JoinType::Inner => JoinKind::Inner,
            JoinType::Left => JoinKind::Left,
            other => {
                let message = format!("a join with a table's versions is INNER or LEFT, and this one is {other}");
                return refused(
                    Code::SqlUnsupported,
                    message,
                    "the rows of the left side say of which time a version is",
                );
            }
        };
        let Some(scan) = scan_of(versions) else {
            let message = "versions are those of a table, not of a query".to_owned();
            return refused(
                Code::SqlUnsupported,
                message,
                "write the query into a table with a PRIMARY KEY, and join that",
            );
        };
        let bound = bound_table(&scan.source)?;
        let ends_by_key = bound.gives == SourceChangelog::Upsert;
        let table = bound.table.descriptor.clone();
        if table.primary_key.is_empty() {
            let message =
                format!("`{}` has no PRIMARY KEY: it is not known which rows are versions of each other", table.name);
            return refused(Code::SqlUnsupported, message, "declare it: `PRIMARY KEY (…) NOT ENFORCED`");
        }

        let left = self.lower(&join.left)?;
        refuse::changelog(&left, "a join with a table's versions", place.clone())?;
        let right_plan = unmarked(&join.right)?;
        // All that each key has been, and not what it has become.
        self.reads_versions = true;
        let right = self.lower(&right_plan);
        self.reads_versions = false;
        let mut right = right?;
        let conjuncts: Vec<&Expr> = join.filter.iter().flat_map(|filter| split_conjunction(filter)).collect();
        let Some((at, times)) = times_of(join, &conjuncts, &left, &right) else {
            let message = "the time of this join is no event time any more where it stands".to_owned();
            return refused(
                Code::TimeAttribute,
                message,
                "join the table's versions before the stream is aggregated or joined",
            );
        };
        let (keys, others) = keys_of(join, &right, &table)?;
        if join.null_equality == NullEquality::NullEqualsNull || keys.len() < table.primary_key.len() {
            let message =
                format!("`{}` is not joined by all of its PRIMARY KEY ({})", table.name, table.primary_key.join(", "));
            return refused(Code::SqlUnsupported, message, "write `ON s.key = t.key` for each of its columns");
        }
        // What else must hold is asked of the version that holds at the time, and makes no other one do.
        let rest =
            conjuncts.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, conjunct)| (*conjunct).clone());
        let equal = others.iter().map(|(l, r)| l.clone().eq(r.clone()));
        let filter = rest.chain(equal).reduce(Expr::and);
        let of_version = std::mem::take(&mut right.filter);
        let width = right.columns.len();
        read_too(&mut right, &of_version)?;
        let before: Vec<Expr> = right.columns.iter().map(|out| out.expr.clone()).collect();

        let (left_exprs, right_exprs): (Vec<&Expr>, Vec<&Expr>) =
            std::iter::once((&times.0, &times.1)).chain(keys.iter().map(|(l, r)| (l, r))).unzip();
        let mut names = UniqueNames::default();
        let (left, left_columns) = self.join_side(left, &left_exprs, join.left.schema(), &mut names)?;
        let (mut right, right_columns) = self.join_side(right, &right_exprs, join.right.schema(), &mut names)?;
        let ([left_time, left_keys @ ..], [right_time, right_keys @ ..]) =
            (left_columns.as_slice(), right_columns.as_slice())
        else {
            return Err(Error::internal("a join with versions without times"));
        };
        let of_version =
            of_version.into_iter().map(|expr| renamed(expr, &before, &right)).collect::<Result<Vec<_>>>()?;
        right.columns.truncate(width);
        let filter = condition_with(join, filter.as_ref(), &left, &right, of_version)?;
        let output = both(&left.base, &without_kinds(&right.base), kind)?;
        let ports = vec![Port::hash(&left.inputs, left_keys.to_vec()), Port::hash(&right.inputs, right_keys.to_vec())];
        let node = TemporalJoinNode {
            kind,
            on: left_keys.iter().copied().zip(right_keys.iter().copied()).collect(),
            times: (*left_time, *right_time),
            filter,
            ends_by_key,
        };
        let name = format!("TemporalJoin({kind:?}, {})", table.name);
        let id = self.graph.add(name, OperatorKind::TemporalJoin(node), Arc::clone(&output), ports)?;
        let count = left.columns.len();
        let mut columns: Vec<Output> = left.columns.into_iter().chain(right.columns).collect();
        for (index, (out, field)) in columns.iter_mut().zip(join.schema.fields()).enumerate() {
            out.field = Arc::clone(field);
            // Rows are told in the order of their own times; a version may be of any time before.
            if index >= count || out.time != TimeAttribute::Rowtime {
                out.time = TimeAttribute::None;
            }
        }
        Ok(Relation::of(id, output, columns))
    }
}

/// Which conjunct says that the version began before, and the two times.
fn times_of(join: &Join, conjuncts: &[&Expr], left: &Relation, right: &Relation) -> Option<(usize, (Expr, Expr))> {
    // The query's own conditions stand in front of it.
    conjuncts.iter().enumerate().rev().find_map(|(at, conjunct)| {
        let Expr::BinaryExpr(BinaryExpr { left: a, op, right: b }) = conjunct else { return None };
        let (later, earlier) = match op {
            Operator::GtEq => (a, b),
            Operator::LtEq => (b, a),
            _ => return None,
        };
        let (later, earlier) = (plain(later), plain(earlier));
        let is_time =
            |side: &Relation, expr: &Expr, schema: &DFSchema| side.time_of(expr, schema) == TimeAttribute::Rowtime;
        let is_it = is_time(left, later, join.left.schema()) && is_time(right, earlier, join.right.schema());
        is_it.then(|| (at, (later.clone(), earlier.clone())))
    })
}

/// A time as it is in its table, without a cast to the other's precision.
fn plain(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(cast) => plain(&cast.expr),
        other => other,
    }
}

type Equality = (Expr, Expr);

/// The equalities with the columns of the primary key, each once, and the others.
fn keys_of(join: &Join, right: &Relation, table: &TableDescriptor) -> Result<(Vec<Equality>, Vec<Equality>)> {
    let mut missing: Vec<&String> = table.primary_key.iter().collect();
    let (mut keys, mut others) = (Vec::new(), Vec::new());
    for pair in &join.on {
        let read = right.translate(&pair.1, join.right.schema())?;
        // Compared with a column of a wider type, a key is still that key.
        let read = match &read {
            Expr::Cast(cast) => match cast.expr.as_ref() {
                Expr::Column(key) => {
                    let key = right.base.field_with_name(&key.name).map_err(|e| Error::internal(e.to_string()))?;
                    let is_key = is_one_to_one(key.data_type(), cast.field.data_type());
                    if is_key { cast.expr.as_ref() } else { &read }
                }
                _ => &read,
            },
            _ => &read,
        };
        match missing.iter().position(|name| column(name) == *read) {
            Some(at) => {
                missing.remove(at);
                keys.push(pair.clone());
            }
            None => others.push(pair.clone()),
        }
    }
    Ok((keys, others))
}

/// Adds the columns that conditions over a relation's base read, so that they are still there behind a projection.
fn read_too(relation: &mut Relation, conditions: &[Expr]) -> Result<()> {
    for read in conditions.iter().flat_map(Expr::column_refs) {
        let expr = Expr::Column(read.clone());
        if !relation.columns.iter().any(|out| out.expr == expr) {
            let field = relation.base.field_with_name(&read.name).map_err(|e| Error::internal(e.to_string()))?;
            relation.columns.push(Output { expr, field: Arc::new(field.clone()), time: TimeAttribute::None });
        }
    }
    Ok(())
}

/// A condition over what columns were, `before`, over what they are now.
fn renamed(condition: Expr, before: &[Expr], relation: &Relation) -> Result<Expr> {
    let renamed = condition.transform_up(|part| match &part {
        Expr::Column(_) => {
            let at = before.iter().position(|expr| *expr == part);
            let now = at.and_then(|at| relation.columns.get(at)).map(|out| out.expr.clone());
            now.map(Transformed::yes).ok_or_else(|| DataFusionError::Internal(format!("column {part} is not there")))
        }
        _ => Ok(Transformed::no(part)),
    });
    Ok(renamed.map_err(|e| internal(&e))?.data)
}
