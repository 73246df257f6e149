//! Table scans: one source operator per table, with the union of what the script needs of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, DataFusionError, ScalarValue};
use datafusion_expr::logical_plan::TableScan;
use datafusion_expr::utils::{conjunction, disjunction};
use datafusion_expr::{Expr, LogicalPlan};
use qanat_proto::changelog::{SourceChangelog, with_kinds};
use qanat_proto::connector::{MetadataKind, TableDescriptor};
use qanat_proto::error::{Code, Error, Place, Result};
use qanat_proto::graph::{OperatorKind, SourceNode, TimeDomain, WatermarkAlignment, WatermarkNode};

use super::Lowering;
use super::changes::no_metadata;
use super::lookup::lookup_of;
use super::refuse::{self, place_of, placed};
use super::relation::{
    Output, Pending, PendingWindow, Relation, TimeAttribute, WindowSpec, column, internal, window_field, window_names,
};
use crate::catalog::BoundColumnKind;
use crate::expr::encode;
use crate::plan::state_ttl::StateTtl;
use crate::plan::table::{StreamTable, bound_table};
use crate::plan::window_table::WindowTable;

/// What the queries of a script read of one table.
#[derive(Debug, Default)]
pub(crate) struct TableUse {
    /// Positions among the declared columns.
    columns: BTreeSet<usize>,
    /// What is read of physical and metadata columns: paths, the column first; those below one are read, too.
    paths: BTreeSet<Vec<String>>,
    /// One per scan, over physical and metadata columns; `None`: that scan takes all rows.
    filters: Vec<Option<Expr>>,
}

impl Lowering<'_> {
    /// Notes what `plan` reads. Tables that a join loads whole are not read as streams.
    pub(super) fn collect_uses(&mut self, plan: &LogicalPlan) -> Result<()> {
        if let LogicalPlan::TableScan(scan) = plan {
            return self.collect_scan(scan, None);
        }
        if let Some((scan, read)) = read_of_scan(plan) {
            return self.collect_scan(scan, Some(&read));
        }
        if let LogicalPlan::Join(join) = plan
            && let Some(side) = lookup_of(join, self.connectors)?
        {
            return self.collect_uses(side.stream(join));
        }
        for input in plan.inputs() {
            self.collect_uses(input)?;
        }
        Ok(())
    }

    /// `read`: all that is read of its columns, where that is known.
    fn collect_scan(&mut self, scan: &TableScan, read: Option<&[&Expr]>) -> Result<()> {
        let bound = bound_table(&scan.source)?;
        let mut paths = BTreeSet::new();
        match read {
            Some(read) => {
                for expr in read.iter().copied().chain(&scan.filters) {
                    paths_of(&declared(&bound, expr)?, &mut paths)?;
                }
            }
            None => {
                for position in projected(scan) {
                    paths_of(&declared(&bound, &column_of(&bound, position)?)?, &mut paths)?;
                }
            }
        }
        let filter = conjunction(scan.filters.iter().cloned()).map(|f| declared(&bound, &f)).transpose()?;
        let entry = self.uses.entry(bound.table.descriptor.name.clone()).or_default();
        entry.columns.extend(projected(scan));
        entry.paths.append(&mut paths);
        entry.filters.push(filter);
        Ok(())
    }

    /// The rows of a table: its source, with computed columns still to be computed.
    pub(super) fn scan(&mut self, scan: &TableScan) -> Result<Relation> {
        let bound = bound_table(&scan.source)?;
        if let SourceChangelog::Envelope { is_wrapped } = bound.gives {
            return self.scan_changes(&bound, is_wrapped, scan);
        }
        let mut layout = self.layout(&bound)?;
        if bound.gives == SourceChangelog::Retract {
            // All records of a row stand in one partition.
            no_metadata(&bound, &layout, &[MetadataKind::Origin])?;
        }
        if !bound.gives.is_append() {
            layout.schema = with_kinds(&layout.schema);
        }
        let watermark = self.watermark(&bound, &layout.schema, Ok)?;
        let node = SourceNode {
            table: bound.table.descriptor.clone(),
            projection: layout.physical.clone(),
            unread: if bound.gives.is_append() { self.unread(&bound, &layout)? } else { Vec::new() },
            metadata: layout.metadata.clone(),
            pushed_filter: self.pushed_filter(&bound, &layout.schema)?,
            watermark,
            bounded: bound.bounded,
            replayable: bound.replayable,
            gives: bound.gives,
        };
        let name = format!("Source({})", bound.table.descriptor.name);
        let id = self.graph.add(name, OperatorKind::Source(node), Arc::clone(&layout.schema), Vec::new())?;
        let id = match bound.gives {
            SourceChangelog::Upsert => self.upserts(id, &bound, &layout)?,
            _ => id,
        };
        let columns = scan_columns(&bound, scan)?;
        Ok(Relation::of(id, layout.schema, columns))
    }

    /// The watermark of a source whose rows are of `schema`. `read`: how an expression over the declared columns reads them.
    pub(super) fn watermark(
        &self,
        bound: &StreamTable,
        schema: &SchemaRef,
        read: impl FnOnce(Expr) -> Result<Expr>,
    ) -> Result<Option<WatermarkNode>> {
        let table = &bound.table.descriptor;
        let Some(watermark) = &bound.table.watermark else { return no_watermark_options(table).map(|()| None) };
        let schema = DFSchema::try_from(Arc::clone(schema)).map_err(|e| internal(&e))?;
        let expr = encode(&read(declared(bound, &watermark.expr)?)?, &schema)?;
        let idle_timeout_ms = duration(table, IDLE_TIMEOUT)?.unwrap_or(self.idle_timeout_ms);
        Ok(Some(WatermarkNode { expr, idle_timeout_ms, alignment: alignment(table)? }))
    }

    pub(super) fn layout(&self, bound: &StreamTable) -> Result<Layout> {
        let mut read = BTreeSet::new();
        if let Some(table_use) = self.uses.get(&bound.table.descriptor.name) {
            for position in &table_use.columns {
                inputs_of(&declared(bound, &column_of(bound, *position)?)?, &mut read)?;
            }
            for filter in table_use.filters.iter().flatten() {
                inputs_of(filter, &mut read)?;
            }
        }
        if let Some(watermark) = &bound.table.watermark {
            inputs_of(&declared(bound, &watermark.expr)?, &mut read)?;
        }
        if bound.gives == SourceChangelog::Upsert {
            read.extend(bound.table.descriptor.primary_key.iter().cloned());
        }
        Layout::new(bound, &read)
    }

    /// The members of rows that no query reads.
    fn unread(&self, bound: &StreamTable, layout: &Layout) -> Result<Vec<Vec<String>>> {
        let Some(table_use) = self.uses.get(&bound.table.descriptor.name) else { return Ok(Vec::new()) };
        let mut read = table_use.paths.clone();
        if let Some(watermark) = &bound.table.watermark {
            paths_of(&declared(bound, &watermark.expr)?, &mut read)?;
        }
        let mut unread = Vec::new();
        for field in layout.schema.fields() {
            leaves(field, &mut Vec::new(), &mut |leaf| {
                let is_read = |path: &Vec<String>| path.iter().zip(leaf).all(|(a, b)| a == b);
                // Of a column that no expression names nothing is known.
                let is_named = read.iter().any(|path| path.first() == leaf.first());
                if is_named && !read.iter().any(is_read) {
                    unread.push(leaf.to_vec());
                }
            });
        }
        Ok(unread)
    }

    /// Rows that no scan wants may be left out: what all scans filter, joined by OR. Whoever leaves rows out
    /// still lets them move the watermark.
    fn pushed_filter(
        &self,
        bound: &StreamTable,
        schema: &SchemaRef,
    ) -> Result<Option<qanat_proto::graph::EncodedExpr>> {
        if !bound.gives.is_append() || !self.connectors.uses_filters(&bound.table.descriptor) {
            return Ok(None);
        }
        let Some(table_use) = self.uses.get(&bound.table.descriptor.name) else { return Ok(None) };
        let Some(filters) = table_use.filters.iter().cloned().collect::<Option<Vec<Expr>>>() else { return Ok(None) };
        let mut distinct: Vec<Expr> = Vec::new();
        for filter in filters {
            if !distinct.contains(&filter) {
                distinct.push(filter);
            }
        }
        let schema = DFSchema::try_from(Arc::clone(schema)).map_err(|e| internal(&e))?;
        match disjunction(distinct) {
            Some(filter) if is_plain(&filter) => encode(&filter, &schema).map(Some),
            _ => Ok(None),
        }
    }

    /// A window table function: its columns are pending until something needs them.
    pub(super) fn window_table(&mut self, table: &WindowTable) -> Result<Relation> {
        let relation = self.lower(&table.input)?;
        refuse::changelog(&relation, "a window", place_of([&Expr::Column(table.time.clone())]))?;
        let schema = table.input.schema();
        let time = Expr::Column(table.time.clone());
        let domain = match relation.time_of(&time, schema) {
            TimeAttribute::Rowtime => TimeDomain::Event,
            TimeAttribute::Proctime => TimeDomain::Processing,
            TimeAttribute::WindowTime(spec) => spec.domain,
            TimeAttribute::WindowStart(_) | TimeAttribute::WindowEnd(_) => {
                let error = Error::new(Code::TimeAttribute, format!("`{}` is no time attribute", table.time.name))
                    .hint("use `window_time` of the earlier window");
                return Err(placed(error, place_of([&time])));
            }
            TimeAttribute::None => {
                let error = Error::new(Code::TimeAttribute, format!("`{}` is no time attribute", table.time.name))
                    .hint(format!(
                        "declare `WATERMARK FOR {0} AS {0} - INTERVAL '5' SECOND` in the table, or a processing-time \
                         column `p AS PROCTIME()`; an expression over a time attribute is none, and behind a session, a Top-N or \
                         a join of windows only `window_time` is one",
                        table.time.name
                    ));
                return Err(placed(error, place_of([&time])));
            }
        };
        let needed: Vec<Expr> =
            std::iter::once(&table.time).chain(&table.partition_by).cloned().map(Expr::Column).collect();
        let relation = match relation.pending {
            Pending::None => relation,
            Pending::Window(_) | Pending::Rank(_) => self.append_pending(relation)?,
        };
        let plain = |relation: &Relation| -> Result<Option<Vec<usize>>> {
            let mut indexes = Vec::new();
            for expr in &needed {
                let expr = relation.translate(expr, schema)?;
                match relation.index_of(&expr) {
                    Some(index) => indexes.push(index),
                    None => return Ok(None),
                }
            }
            Ok(Some(indexes))
        };
        // A session is made of the rows that are left after the filter; other windows do not mind, but a
        // filter before them keeps rows that nobody wants from being assigned.
        let is_session = matches!(table.shape, qanat_proto::graph::WindowShape::Session { .. });
        let filtered = !relation.filter.is_empty() && is_session;
        let (mut relation, indexes) = match plain(&relation)? {
            Some(indexes) if !filtered => (relation, indexes),
            _ => {
                let relation = self.materialise(relation)?;
                let indexes = plain(&relation)?.ok_or_else(|| Error::internal("a window's column is no column"))?;
                (relation, indexes)
            }
        };
        let (time_column, partition_by) = match indexes.split_first() {
            Some((time, keys)) => (*time, keys.to_vec()),
            None => return Err(Error::internal("a window without a time column")),
        };
        let spec = WindowSpec { shape: table.shape, domain };
        let names = window_names(&relation.base);
        if is_session {
            relation.forget_rowtime();
        }
        let mut columns = relation.columns;
        let times = [TimeAttribute::WindowStart(spec), TimeAttribute::WindowEnd(spec), TimeAttribute::WindowTime(spec)];
        for (name, time) in names.iter().zip(times) {
            columns.push(Output { expr: column(name), field: window_field(name), time });
        }
        let pending = Pending::Window(PendingWindow { spec, time_column, partition_by, names });
        Ok(super::with_fields(
            Relation { columns, pending, ..relation },
            &LogicalPlan::Extension(datafusion_expr::Extension { node: Arc::new(table.clone()) }),
        ))
    }
}

/// Whether a filter is made of conditions over columns and literals alone. Others could fail on a row, which
/// must be seen then.
fn is_plain(filter: &Expr) -> bool {
    let plain = |expr: &Expr| match expr {
        Expr::BinaryExpr(binary) => binary.op.supports_propagation() || binary.op.is_logic_operator(),
        Expr::Column(_)
        | Expr::Literal(..)
        | Expr::Not(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::InList(_)
        | Expr::Between(_)
        | Expr::Like(_) => true,
        Expr::Cast(cast) => matches!(cast.expr.as_ref(), Expr::Column(_)),
        _ => false,
    };
    !filter.exists(|expr| Ok(!plain(expr))).unwrap_or(true)
}

const IDLE_TIMEOUT: &str = "scan.watermark.idle-timeout";
pub(super) const MAX_DRIFT: &str = "scan.watermark.alignment.max-drift";
const GROUP: &str = "scan.watermark.alignment.group";

/// How the splits of a table are kept together in time.
fn alignment(table: &TableDescriptor) -> Result<Option<WatermarkAlignment>> {
    let group = table.option(GROUP).map(str::to_owned);
    match duration(table, MAX_DRIFT)? {
        Some(drift) => {
            let max_drift_ms = i64::try_from(drift).unwrap_or(i64::MAX);
            Ok(Some(WatermarkAlignment { group, max_drift_ms }))
        }
        None if group.is_some() => Err(Error::new(Code::MissingOption, format!("option `{MAX_DRIFT}` is missing"))
            .at(Place::Named(table.name.clone()))
            .hint(format!("`{GROUP}` says which tables wait for each other, `{MAX_DRIFT}` how far they may be apart"))),
        None => Ok(None),
    }
}

/// The options of watermarks would do nothing for a table that has none.
fn no_watermark_options(table: &TableDescriptor) -> Result<()> {
    match [IDLE_TIMEOUT, MAX_DRIFT, GROUP].into_iter().find(|key| table.option(key).is_some()) {
        None => Ok(()),
        Some(key) => Err(Error::new(Code::BadOption, format!("`{key}` for a table without a watermark"))
            .at(Place::Named(table.name.clone()))
            .hint("declare `WATERMARK FOR column AS expression` in the table, or leave the option out")),
    }
}

fn duration(table: &TableDescriptor, key: &str) -> Result<Option<u64>> {
    let Some(text) = table.option(key) else { return Ok(None) };
    let bad = || {
        Error::new(Code::BadOption, format!("`{key}` = `{text}` is no duration")).at(Place::Named(table.name.clone()))
    };
    qanat_proto::settings::parse_duration_ms(text).map(Some).ok_or_else(bad)
}

/// What a source emits: physical columns, then metadata columns.
pub(super) struct Layout {
    pub(super) physical: Vec<usize>,
    pub(super) metadata: Vec<usize>,
    pub(super) schema: SchemaRef,
}

impl Layout {
    /// `read`: names of physical and metadata columns.
    pub(super) fn new(bound: &StreamTable, read: &BTreeSet<String>) -> Result<Self> {
        let table = &bound.table.descriptor;
        let mut fields: Vec<FieldRef> = Vec::new();
        let mut physical = Vec::new();
        for (index, field) in table.physical.fields().iter().enumerate() {
            if read.contains(field.name()) {
                physical.push(index);
                fields.push(Arc::clone(field));
            }
        }
        let mut metadata = Vec::new();
        for (index, meta) in table.metadata.iter().enumerate() {
            if read.contains(&meta.name) {
                metadata.push(index);
                fields.push(Arc::new(Field::new(&meta.name, meta.kind.data_type(), true)));
            }
        }
        // Rows without columns cannot be counted: `count(*)` reads the first column.
        if fields.is_empty()
            && let Some(first) = table.physical.fields().first()
        {
            physical.push(0);
            fields.push(Arc::clone(first));
        }
        Ok(Self { physical, metadata, schema: Arc::new(Schema::new(fields)) })
    }
}

/// Positions of the declared columns that a scan gives, in order.
pub(super) fn projected(scan: &TableScan) -> Vec<usize> {
    match &scan.projection {
        Some(positions) => positions.clone(),
        None => (0..scan.source.schema().fields().len()).collect(),
    }
}

/// The columns of a scan as expressions over its source.
pub(super) fn scan_columns(bound: &StreamTable, scan: &TableScan) -> Result<Vec<Output>> {
    let mut columns = Vec::new();
    for (position, (_, field)) in projected(scan).into_iter().zip(scan.projected_schema.iter()) {
        let reference = column_of(bound, position)?;
        let expr = declared(bound, &reference)?;
        let rowtime = bound.table.watermark.as_ref().is_some_and(|w| w.column == *field.name());
        let time = if rowtime { TimeAttribute::Rowtime } else { proctime_of(&expr, TimeAttribute::None) };
        columns.push(Output { expr, field: Arc::clone(field), time });
    }
    Ok(columns)
}

/// `PROCTIME()` makes a processing-time attribute.
pub(super) fn proctime_of(expr: &Expr, known: TimeAttribute) -> TimeAttribute {
    match expr {
        Expr::Alias(alias) => proctime_of(&alias.expr, known),
        Expr::ScalarFunction(function) if function.name().eq_ignore_ascii_case("proctime") => TimeAttribute::Proctime,
        _ => known,
    }
}

/// `expr` over declared columns as an expression over physical and metadata columns: computed columns
/// are replaced by what they compute.
pub(super) fn declared(bound: &StreamTable, expr: &Expr) -> Result<Expr> {
    let mut depth = 0_usize;
    let mut current = expr.clone();
    loop {
        let step = current
            .transform_up(|e| match &e {
                Expr::Column(c) => {
                    let found = bound.table.columns.iter().find(|declared| declared.name() == c.name);
                    match found.map(|declared| &declared.kind) {
                        Some(BoundColumnKind::Computed(computed)) => Ok(Transformed::yes(computed.clone())),
                        Some(_) if c.relation.is_some() || !c.spans.0.is_empty() => {
                            Ok(Transformed::yes(column(&c.name)))
                        }
                        Some(_) => Ok(Transformed::no(e)),
                        None => Err(DataFusionError::Internal(format!("table has no column `{}`", c.name))),
                    }
                }
                _ => Ok(Transformed::no(e)),
            })
            .map_err(|e| internal(&e))?;
        if !step.transformed {
            return Ok(step.data);
        }
        current = step.data;
        depth += 1;
        if depth > bound.table.columns.len() + 2 {
            let message =
                format!("computed columns of `{}` refer to each other in a circle", bound.table.descriptor.name);
            return Err(Error::new(Code::SqlUnsupported, message));
        }
    }
}

fn column_of(bound: &StreamTable, position: usize) -> Result<Expr> {
    match bound.table.columns.get(position) {
        Some(declared) => Ok(column(declared.name())),
        None => Err(Error::internal(format!("table `{}` has no column {position}", bound.table.descriptor.name))),
    }
}

/// Names of the columns that `expr` reads.
fn inputs_of(expr: &Expr, names: &mut BTreeSet<String>) -> Result<()> {
    expr.apply(|e| {
        if let Expr::Column(c) = e {
            names.insert(c.name.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map(|_| ())
    .map_err(|e| internal(&e))
}

/// The scan below a projection with nothing but filters in between, and all expressions over its columns.
fn read_of_scan(plan: &LogicalPlan) -> Option<(&TableScan, Vec<&Expr>)> {
    let LogicalPlan::Projection(projection) = plan else { return None };
    let mut read: Vec<&Expr> = projection.expr.iter().collect();
    let mut input = projection.input.as_ref();
    loop {
        input = match input {
            LogicalPlan::Filter(filter) => {
                read.push(&filter.predicate);
                filter.input.as_ref()
            }
            LogicalPlan::SubqueryAlias(alias) => alias.input.as_ref(),
            LogicalPlan::Extension(extension) => &extension.node.as_any().downcast_ref::<StateTtl>()?.input,
            LogicalPlan::TableScan(scan) => return Some((scan, read)),
            _ => return None,
        };
    }
}

/// The columns that `expr` reads, or the members of rows in them.
fn paths_of(expr: &Expr, paths: &mut BTreeSet<Vec<String>>) -> Result<()> {
    expr.apply(|e| match path_of(e) {
        Some(path) => {
            paths.insert(path);
            Ok(TreeNodeRecursion::Jump)
        }
        None => Ok(TreeNodeRecursion::Continue),
    })
    .map(|_| ())
    .map_err(|e| internal(&e))
}

/// Of a column, or of a member of one.
fn path_of(expr: &Expr) -> Option<Vec<String>> {
    match expr {
        Expr::Column(column) => Some(vec![column.name.clone()]),
        Expr::ScalarFunction(function) if function.name() == "get_field" => {
            let [row, names @ ..] = function.args.as_slice() else { return None };
            let mut path = path_of(row)?;
            for name in names {
                let Expr::Literal(ScalarValue::Utf8(Some(name)), _) = name else { return None };
                path.push(name.clone());
            }
            Some(path)
        }
        _ => None,
    }
}

/// The paths of what a row and the rows in it hold and may be NULL; of another column its own.
fn leaves(field: &Field, path: &mut Vec<String>, found: &mut impl FnMut(&[String])) {
    path.push(field.name().clone());
    match field.data_type() {
        DataType::Struct(members) => members.iter().for_each(|member| leaves(member, path, found)),
        _ if field.is_nullable() => found(path),
        _ => {}
    }
    path.pop();
}
