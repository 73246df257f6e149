//! Joins of a stream with a bounded table that is loaded whole.
//!
//! Either the query says so (`JOIN t FOR SYSTEM_TIME AS OF s.proctime`), or one side is a bounded table
//! without a watermark whose connector can be looked up in: then keeping the table and probing with the
//! stream gives the batch answer with bounded state.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, DataFusionError, JoinType, NullEquality};
use datafusion_expr::logical_plan::{Join, TableScan};
use datafusion_expr::{Expr, LogicalPlan};
use qanat_proto::connector::{ConnectorCatalog, Role, TableDescriptor};
use qanat_proto::error::{Code, Error, Place, Result};
use qanat_proto::graph::{EncodedExpr, JoinKind, LookupJoinNode, OperatorKind};

use super::Lowering;
use super::graph::Port;
use super::join::{both, input};
use super::refuse::placed;
use super::relation::{Output, Pending, Relation, TimeAttribute, UniqueNames, calc_of, internal};
use super::source::{Layout, declared, projected, scan_columns};
use super::temporal_join::versions_of;
use crate::plan::state_ttl::StateTtl;
use crate::plan::table::bound_table;
use crate::plan::temporal::Temporal;
use crate::plan::window_table::WindowTable;
use crate::rules::hidden;

/// How often a looked-up table is loaded anew, as Flink calls it.
const REFRESH_OPTION: &str = "lookup.full-cache.periodic-reload.interval";

/// Which side of a join is the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct LookupSide {
    right: bool,
}

impl LookupSide {
    pub(super) fn stream<'j>(&self, join: &'j Join) -> &'j LogicalPlan {
        input(join, !self.right)
    }

    fn table<'j>(&self, join: &'j Join) -> &'j LogicalPlan {
        input(join, self.right)
    }
}

/// The scan at the bottom of a chain of filters and projections, and whether `FOR SYSTEM_TIME` stands in it.
fn table_of(plan: &LogicalPlan) -> Option<(&TableScan, bool)> {
    match plan {
        LogicalPlan::TableScan(scan) => Some((scan, false)),
        LogicalPlan::SubqueryAlias(alias) => table_of(&alias.input),
        LogicalPlan::Projection(projection) => table_of(&projection.input),
        LogicalPlan::Filter(filter) => table_of(&filter.input),
        LogicalPlan::Extension(extension) => {
            if let Some(hinted) = extension.node.as_any().downcast_ref::<StateTtl>() {
                return table_of(&hinted.input);
            }
            let temporal = extension.node.as_any().downcast_ref::<Temporal>()?;
            table_of(&temporal.input).map(|(scan, _)| (scan, true))
        }
        _ => None,
    }
}

/// Whether `join` is a lookup, and on which side.
///
/// # Errors
/// E0205 if the query asks for a lookup in a table that cannot be looked up in; E0102 for a kind of join
/// that a lookup cannot be.
pub(super) fn lookup_of(join: &Join, connectors: &dyn ConnectorCatalog) -> Result<Option<LookupSide>> {
    if versions_of(join).is_some() {
        return Ok(None);
    }
    match shape_of(join, connectors)? {
        // Rows that are taken back have to meet the rows that they met, whatever the table says by then.
        Some((side, false)) if changes(side.stream(join), connectors)? => Ok(None),
        shape => Ok(shape.map(|(side, _)| side)),
    }
}

/// The side of a join that can be a lookup's, and whether the query asks for one.
fn shape_of(join: &Join, connectors: &dyn ConnectorCatalog) -> Result<Option<(LookupSide, bool)>> {
    let sides = [(true, JoinType::Left), (false, JoinType::Right)];
    for (right, outer) in sides {
        let Some((scan, temporal)) = table_of(input(join, right)) else { continue };
        let bound = bound_table(&scan.source)?;
        let kept = join.join_type == JoinType::Inner || join.join_type == outer;
        if temporal {
            if !kept {
                let message = format!("a lookup join is INNER or LEFT, and this one is {}", join.join_type);
                return Err(Error::new(Code::SqlUnsupported, message));
            }
            connectors.check(&bound.table.descriptor, Role::Lookup)?;
            if !bound.gives.is_append() {
                let name = &bound.table.descriptor.name;
                let message = format!("`{name}` tells of changes, and a lookup reads a table as it stands");
                let hint = "join it without FOR SYSTEM_TIME AS OF: the result changes with it";
                return Err(Error::new(Code::SqlUnsupported, message).hint(hint));
            }
            return Ok(Some((LookupSide { right }, true)));
        }
        let is_final = bound.table.watermark.is_none() && bound.bounded && bound.gives.is_append();
        let looks_up = is_final && !join.on.is_empty();
        if kept && looks_up && connectors.check(&bound.table.descriptor, Role::Lookup).is_ok() {
            return Ok(Some((LookupSide { right }, false)));
        }
    }
    Ok(None)
}

/// Whether rows of a query may be taken back, as far as its plan tells: it aggregates, takes first rows, or joins other
/// than by an inner join, without a window.
fn changes(plan: &LogicalPlan, connectors: &dyn ConnectorCatalog) -> Result<bool> {
    let is_windowed = |plan: &LogicalPlan| {
        let is_window = |node: &LogicalPlan| match node {
            LogicalPlan::Extension(extension) => extension.node.as_any().is::<WindowTable>(),
            _ => false,
        };
        plan.exists(|node| Ok(is_window(node))).unwrap_or(false)
    };
    let changes_here = match plan {
        // Rows that are told once; what the table tells of is in its versions.
        LogicalPlan::Join(join) if versions_of(join).is_some() => return changes(&join.left, connectors),
        LogicalPlan::Aggregate(aggregate) => !is_windowed(&aggregate.input),
        LogicalPlan::Distinct(_) | LogicalPlan::Window(_) | LogicalPlan::Sort(_) | LogicalPlan::Limit(_) => {
            !is_windowed(plan)
        }
        LogicalPlan::TableScan(scan) => !bound_table(&scan.source)?.gives.is_append(),
        LogicalPlan::Join(join) if shape_of(join, connectors)?.is_none() => {
            join.join_type != JoinType::Inner && !(is_windowed(&join.left) && is_windowed(&join.right))
        }
        _ => false,
    };
    if changes_here {
        return Ok(true);
    }
    for input in plan.inputs() {
        if changes(input, connectors)? {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Lowering<'_> {
    pub(super) fn lookup_join(&mut self, join: &Join, side: LookupSide, place: Option<Place>) -> Result<Relation> {
        if join.on.is_empty() || join.null_equality == NullEquality::NullEqualsNull {
            let error =
                Error::new(Code::SqlUnsupported, "a lookup join needs an equality between the stream and the table")
                    .hint("write `ON s.key = t.key AND …`");
            return Err(placed(error, place));
        }
        let kind = if join.join_type == JoinType::Inner { JoinKind::Inner } else { JoinKind::Left };
        let stream_plan = side.stream(join);
        let table_plan = side.table(join);
        let (stream_exprs, table_exprs): (Vec<&Expr>, Vec<&Expr>) =
            join.on.iter().map(|(l, r)| if side.right { (l, r) } else { (r, l) }).unzip();

        let stream = self.lower(stream_plan)?;
        super::refuse::changelog(&stream, "a lookup", place.clone())?;
        let mut names = UniqueNames::default();
        let (stream, stream_keys) = self.join_side(stream, &stream_exprs, stream_plan.schema(), &mut names)?;
        let loaded = self.loaded(table_plan, &table_exprs, &mut names)?;

        let on: Vec<(usize, usize)> = stream_keys.iter().copied().zip(loaded.keys.iter().copied()).collect();
        let table_columns: Vec<Output> = loaded.columns;
        let mut stream_columns = stream.columns.clone();
        let scope = both(&stream.base, &loaded.schema, JoinKind::Inner)?;
        let (mut columns, right_first) = if side.right {
            (stream_columns, false)
        } else {
            let mut first = table_columns.clone();
            first.append(&mut stream_columns);
            (first, true)
        };
        if !right_first {
            columns.extend(table_columns);
        }
        let filter = match &join.filter {
            None => loaded.matching.map(|matching| encoded(&matching, &scope)).transpose()?,
            Some(filter) => {
                let logical = join.left.schema().join(join.right.schema()).map_err(|e| internal(&e))?;
                let combined = Relation {
                    inputs: Vec::new(),
                    base: Arc::clone(&scope),
                    pending: Pending::None,
                    filter: Vec::new(),
                    columns: columns.clone(),
                    hint: None,
                };
                let filter = combined.translate(filter, &logical)?;
                let filter = loaded.matching.into_iter().chain([filter]).reduce(Expr::and);
                filter.map(|filter| encoded(&filter, &scope)).transpose()?
            }
        };
        let output = both(&stream.base, &loaded.schema, kind)?;
        let refresh_ms = refresh(&loaded.table)?;
        let name = format!("LookupJoin({kind:?}, {})", loaded.table.name);
        let node = LookupJoinNode {
            table: loaded.table,
            projection: loaded.projection,
            calc: loaded.calc,
            right: loaded.schema,
            kind,
            on,
            filter,
            refresh_ms,
        };
        let ports = vec![Port::forward(&stream.inputs)];
        let id = self.graph.add(name, OperatorKind::LookupJoin(node), Arc::clone(&output), ports)?;
        for (out, field) in columns.iter_mut().zip(join.schema.fields()) {
            out.field = Arc::clone(field);
        }
        Ok(Relation::of(id, output, columns))
    }

    /// The table's side: what is loaded, and the filter and projection over it.
    fn loaded(&mut self, plan: &LogicalPlan, keys: &[&Expr], names: &mut UniqueNames) -> Result<Loaded> {
        let (scan, _) = table_of(plan).ok_or_else(|| Error::internal("a lookup without a table"))?;
        let bound = bound_table(&scan.source)?;
        let mut read = BTreeSet::new();
        for position in projected(scan) {
            let column =
                bound.table.columns.get(position).ok_or_else(|| Error::internal("a scan reads a missing column"))?;
            let expr = declared(&bound, &super::relation::column(column.name()))?;
            read.extend(expr.column_refs().into_iter().map(|c| c.name.clone()));
        }
        let layout = Layout::new(&bound, &read)?;
        if !layout.metadata.is_empty() {
            let message = format!(
                "metadata columns of the looked-up table `{}` are not supported yet",
                bound.table.descriptor.name
            );
            return Err(Error::new(Code::SqlUnsupported, message));
        }
        let relation = Relation {
            inputs: Vec::new(),
            base: Arc::clone(&layout.schema),
            pending: Pending::None,
            filter: Vec::new(),
            columns: scan_columns(&bound, scan)?,
            hint: None,
        };
        let mut relation = self.over_loaded(relation, plan)?;
        let width = relation.columns.len();
        // What can fail is asked of rows that are joined, not of the whole table.
        let (failing, filter) = std::mem::take(&mut relation.filter).into_iter().partition(hidden::can_fail);
        relation.filter = filter;
        let failing: Vec<Expr> = failing;
        let positions = relation.columns_of(keys.iter().copied(), plan.schema(), "lookup_key")?;
        for column in failing.iter().flat_map(Expr::column_refs) {
            let expr = Expr::Column(column.clone());
            if !relation.columns.iter().any(|out| out.expr == expr) {
                let field = relation.base.field_with_name(&column.name).map_err(|e| Error::internal(e.to_string()))?;
                relation.columns.push(Output { expr, field: Arc::new(field.clone()), time: TimeAttribute::None });
            }
        }
        let identity = relation.is_identity();
        let mut renamed = false;
        for out in &mut relation.columns {
            let name = names.take(out.field.name());
            renamed |= name != *out.field.name();
            out.field = Arc::new(out.field.as_ref().clone().with_name(name));
        }
        let same = relation.columns.iter().zip(relation.base.fields()).all(|(o, f)| o.field.name() == f.name());
        let (calc, schema) = if identity && !renamed && same {
            (None, Arc::clone(&relation.base))
        } else {
            let (calc, schema) = calc_of(&relation)?;
            (Some(calc), schema)
        };
        let matching = failing.into_iter().map(|expr| as_loaded(expr, &relation)).collect::<Result<Vec<_>>>()?;
        let mut columns = Relation::over(Vec::new(), Arc::clone(&schema), &[]).columns;
        columns.truncate(width);
        Ok(Loaded {
            matching: matching.into_iter().reduce(Expr::and),
            table: bound.table.descriptor.clone(),
            projection: layout.physical,
            calc,
            schema,
            keys: positions,
            columns,
        })
    }

    /// Filters and projections above the scan, over the loaded rows.
    fn over_loaded(&mut self, scan: Relation, plan: &LogicalPlan) -> Result<Relation> {
        let relation = match plan {
            LogicalPlan::TableScan(_) => scan,
            LogicalPlan::SubqueryAlias(alias) => self.over_loaded(scan, &alias.input)?,
            LogicalPlan::Extension(extension) => {
                if let Some(hinted) = extension.node.as_any().downcast_ref::<StateTtl>() {
                    self.note_hint(hinted);
                }
                match extension.node.inputs().as_slice() {
                    // A marker.
                    [input] => self.over_loaded(scan, input)?,
                    _ => return Err(Error::internal("a lookup over another node")),
                }
            }
            LogicalPlan::Projection(projection) => {
                let relation = self.over_loaded(scan, &projection.input)?;
                let mut columns = Vec::new();
                for (expr, field) in projection.expr.iter().zip(projection.schema.fields()) {
                    let expr = relation.translate(expr, projection.input.schema())?;
                    columns.push(Output { expr, field: Arc::clone(field), time: TimeAttribute::None });
                }
                Relation { columns, ..relation }
            }
            LogicalPlan::Filter(filter) => {
                let mut relation = self.over_loaded(scan, &filter.input)?;
                for conjunct in datafusion_expr::utils::split_conjunction(&filter.predicate) {
                    let conjunct = relation.translate(conjunct, filter.input.schema())?;
                    relation.filter.push(conjunct);
                }
                relation
            }
            _ => return Err(Error::internal("a lookup over another node")),
        };
        Ok(super::with_fields(relation, plan))
    }
}

/// A condition over the base, over the columns that are made of it.
fn as_loaded(expr: Expr, relation: &Relation) -> Result<Expr> {
    let expr = expr.transform_up(|part| match &part {
        Expr::Column(_) => {
            let made = relation.columns.iter().find(|out| out.expr == part);
            let made = made.ok_or_else(|| DataFusionError::Internal(format!("column {part} is not loaded")))?;
            Ok(Transformed::yes(super::relation::column(made.field.name())))
        }
        _ => Ok(Transformed::no(part)),
    });
    Ok(expr.map_err(|e| internal(&e))?.data)
}

fn encoded(filter: &Expr, scope: &SchemaRef) -> Result<EncodedExpr> {
    let scope = DFSchema::try_from(Arc::clone(scope)).map_err(|e| internal(&e))?;
    crate::expr::encode(filter, &scope)
}

struct Loaded {
    table: TableDescriptor,
    projection: Vec<usize>,
    calc: Option<qanat_proto::graph::CalcNode>,
    schema: SchemaRef,
    keys: Vec<usize>,
    columns: Vec<Output>,
    /// What else a row must be to match, over `schema`.
    matching: Option<Expr>,
}

fn refresh(table: &TableDescriptor) -> Result<Option<u64>> {
    let Some(text) = table.option(REFRESH_OPTION) else { return Ok(None) };
    match qanat_proto::settings::parse_duration_ms(text) {
        Some(0) => Ok(None),
        Some(ms) => Ok(Some(ms)),
        None => Err(Error::new(Code::BadOption, format!("`{REFRESH_OPTION}` = `{text}` is no duration"))
            .at(Place::Named(table.name.clone()))
            .hint("for example `10 min`")),
    }
}
