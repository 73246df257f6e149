//! `GROUP BY window_start, window_end, …` to a window aggregation.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion_common::DFSchema;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_expr::expr::{AggregateFunction, NullTreatment};
use datafusion_expr::logical_plan::Aggregate;
use datafusion_expr::{Expr, ExprSchemable};
use qanat_proto::error::{Code, Error, Result};
use qanat_proto::graph::{
    AggregateCall, OperatorKind, SortKey, TimeDomain, WindowAggregateNode, WindowColumn, WindowShape, WindowSource,
    WindowTelling,
};

use super::graph::Port;
use super::refuse::{self, place_of, placed};
use super::relation::{
    Output, Pending, PendingWindow, Relation, TimeAttribute, UniqueNames, WindowSpec, column, internal, window_field,
};
use super::{Lowering, Telling};
use crate::expr::encode;
use crate::plan::window_table::{WINDOW_COLUMNS, shape_text};

/// A grouping expression: a column of the window or a key.
pub(super) enum Group {
    Window(WindowColumn),
    Key,
}

impl Lowering<'_> {
    pub(super) fn aggregate(&mut self, aggregate: &Aggregate) -> Result<Relation> {
        let schema = aggregate.input.schema();
        for expr in aggregate.group_expr.iter().chain(&aggregate.aggr_expr) {
            refuse::subqueries(expr, &aggregate.input)?;
        }
        let relation = self.lower(&aggregate.input)?;
        let Some((spec, groups)) = classify(&relation, aggregate)? else {
            return self.group_aggregate(relation, aggregate, None);
        };
        refuse::changelog(&relation, "a window aggregation", place_of(&aggregate.group_expr))?;
        if let Some(telling) = self.window_telling(&spec, &groups) {
            return self.group_aggregate(relation, aggregate, Some(telling));
        }
        let exprs: Vec<Expr> = aggregate.group_expr.iter().chain(&aggregate.aggr_expr).cloned().collect();
        let relation = if relation.must_materialise(&exprs, schema)? && !matches!(relation.pending, Pending::Window(_))
        {
            self.materialise(relation)?
        } else {
            relation
        };
        match relation.pending.clone() {
            Pending::Window(window) if fuses(&relation, &window, aggregate, &groups)? => {
                self.aggregate_function(relation, &window, aggregate, &groups)
            }
            _ => self.aggregate_columns(relation, spec, aggregate, &groups),
        }
    }

    /// How the groups of windows are told before they close, if the job asks for it. Sessions are known when they close;
    /// what processing time has closed is never late.
    fn window_telling(&self, spec: &WindowSpec, groups: &[Group]) -> Option<WindowTelling> {
        let is_session = matches!(spec.shape, WindowShape::Session { .. });
        let Telling { early_ms, late_ms } = self.telling;
        if is_session || spec.domain != TimeDomain::Event || (early_ms.is_none() && late_ms.is_none()) {
            return None;
        }
        let end = groups.iter().position(|group| matches!(group, Group::Window(WindowColumn::End)))?;
        Some(WindowTelling { end, allowed_lateness_ms: self.allowed_lateness_ms, early_ms, late_ms })
    }

    /// The window function and the aggregation as one operator.
    fn aggregate_function(
        &mut self,
        relation: Relation,
        window: &PendingWindow,
        aggregate: &Aggregate,
        groups: &[Group],
    ) -> Result<Relation> {
        let time = relation.base.field(window.time_column).name().clone();
        let relation = Relation { pending: Pending::None, ..relation };
        let prepared = self.prepare(relation, aggregate, groups, &[column(&time)])?;
        let time_column = *prepared.extra.first().ok_or_else(|| Error::internal("a window lost its time column"))?;
        let source = WindowSource::Function { shape: window.spec.shape, domain: window.spec.domain, time_column };
        self.window_aggregate(prepared, source, window.spec, aggregate, groups)
    }

    /// Aggregation over rows that already carry their window.
    fn aggregate_columns(
        &mut self,
        relation: Relation,
        spec: WindowSpec,
        aggregate: &Aggregate,
        groups: &[Group],
    ) -> Result<Relation> {
        let relation = self.append_pending(relation)?;
        let bound = |wanted: WindowColumn| {
            let mut pairs = groups.iter().zip(&aggregate.group_expr);
            pairs
                .find(|(group, _)| matches!(group, Group::Window(column) if *column == wanted))
                .map(|(_, expr)| relation.translate(expr, aggregate.input.schema()))
                .unwrap_or_else(|| Err(Error::internal("a window without its bounds")))
        };
        let extra = [bound(WindowColumn::Start)?, bound(WindowColumn::End)?];
        let prepared = self.prepare(relation, aggregate, groups, &extra)?;
        let (start, end) = match prepared.extra.as_slice() {
            [start, end] => (*start, *end),
            _ => return Err(Error::internal("a window without its bounds")),
        };
        let source = WindowSource::Columns { start, end, domain: spec.domain };
        self.window_aggregate(prepared, source, spec, aggregate, groups)
    }

    /// Brings keys and extra columns to column positions, with a Calc where they are expressions or rows
    /// are filtered. Arguments stay expressions over what is then the input.
    pub(super) fn prepare(
        &mut self,
        relation: Relation,
        aggregate: &Aggregate,
        groups: &[Group],
        extra: &[Expr],
    ) -> Result<Prepared> {
        let schema = aggregate.input.schema();
        let mut keys = Vec::new();
        for (expr, group) in aggregate.group_expr.iter().zip(groups) {
            if matches!(group, Group::Key) {
                keys.push((relation.translate(expr, schema)?, group_name(expr)));
            }
        }
        let mut calls = Vec::new();
        let mut names = UniqueNames::default();
        for expr in &aggregate.aggr_expr {
            calls.push(Call::new(expr, &relation, schema, &mut names)?);
        }
        let direct = relation.filter.is_empty()
            && keys.iter().all(|(key, _)| relation.index_of(key).is_some())
            && extra.iter().all(|e| relation.index_of(e).is_some());
        if direct {
            let index = |expr: &Expr| relation.index_of(expr).ok_or_else(|| Error::internal("a key is no column"));
            let keys = keys.iter().map(|(key, _)| index(key)).collect::<Result<_>>()?;
            let extra = extra.iter().map(index).collect::<Result<_>>()?;
            return Ok(Prepared { inputs: relation.inputs, schema: relation.base, keys, extra, calls });
        }
        // Keys first, then whatever base columns the arguments and the window read.
        let mut columns = Vec::new();
        let scope = relation.scope()?;
        let mut taken = UniqueNames::default();
        for (key, name) in &keys {
            columns.push(output(key, &taken.take(name), &scope)?);
        }
        let mut place: BTreeMap<String, usize> = BTreeMap::new();
        for (position, out) in columns.iter().enumerate() {
            if let Expr::Column(c) = &out.expr {
                place.insert(c.name.clone(), position);
            }
        }
        let mut reads = BTreeSet::new();
        for expr in calls.iter().flat_map(Call::exprs).chain(extra) {
            read_columns(expr, &mut reads)?;
        }
        for name in reads {
            if !place.contains_key(&name) {
                place.insert(name.clone(), columns.len());
                columns.push(output(&column(&name), &taken.take(&name), &scope)?);
            }
        }
        let renamed: BTreeMap<String, String> = place
            .iter()
            .filter_map(|(name, position)| columns.get(*position).map(|out| (name.clone(), out.field.name().clone())))
            .collect();
        for call in &mut calls {
            call.rename(&renamed)?;
        }
        let keys = (0..keys.len()).collect();
        let position = |expr: &Expr| match expr {
            Expr::Column(c) => place.get(&c.name).copied(),
            _ => None,
        };
        let extra = extra
            .iter()
            .map(|expr| position(expr).ok_or_else(|| Error::internal("a window column is no column")))
            .collect::<Result<_>>()?;
        let relation = self.materialise_exact(Relation { columns, ..relation })?;
        Ok(Prepared { inputs: relation.inputs, schema: relation.base, keys, extra, calls })
    }

    /// A Calc unless the rows are already exactly these columns.
    fn materialise_exact(&mut self, relation: Relation) -> Result<Relation> {
        let same_names = relation.columns.iter().zip(relation.base.fields()).all(|(o, f)| o.field.name() == f.name());
        if relation.is_identity() && same_names { Ok(relation) } else { self.materialise_always(relation) }
    }

    fn window_aggregate(
        &mut self,
        prepared: Prepared,
        window: WindowSource,
        spec: WindowSpec,
        aggregate: &Aggregate,
        groups: &[Group],
    ) -> Result<Relation> {
        let input = DFSchema::try_from(Arc::clone(&prepared.schema)).map_err(|e| internal(&e))?;
        let mut names = UniqueNames::default();
        let mut fields: Vec<FieldRef> = Vec::new();
        for key in &prepared.keys {
            let field = prepared.schema.field(*key);
            fields.push(Arc::new(field.clone().with_name(names.take(field.name()))));
        }
        let mut aggregates = Vec::new();
        let results = aggregate.schema.fields().iter().skip(aggregate.group_expr.len());
        for (call, result) in prepared.calls.iter().zip(results) {
            let name = names.take(&call.name);
            fields.push(Arc::new(Field::new(&name, result.data_type().clone(), result.is_nullable())));
            aggregates.push(call.encode(name, &input)?);
        }
        let window_columns: Vec<WindowColumn> = [WindowColumn::Start, WindowColumn::End, WindowColumn::Time]
            .into_iter()
            .filter(|wanted| groups.iter().any(|g| matches!(g, Group::Window(c) if c == wanted)))
            .collect();
        let mut window_positions = BTreeMap::new();
        for wanted in &window_columns {
            window_positions.insert(window_name(*wanted), fields.len());
            fields.push(window_field(&names.take(window_name(*wanted))));
        }
        let output: SchemaRef = Arc::new(Schema::new(fields));
        let mut partition = prepared.keys.clone();
        if let WindowSource::Columns { start, end, .. } = &window
            && prepared.keys.is_empty()
        {
            // Without keys the windows themselves spread over the subtasks.
            partition = vec![*start, *end];
        }
        let port = Port::hash(&prepared.inputs, partition);
        let name = match &window {
            WindowSource::Function { shape, .. } => format!("WindowAggregate({})", shape_text(shape)),
            WindowSource::Columns { .. } => format!("WindowAggregate(by {} window)", shape_text(&spec.shape)),
        };
        let node = WindowAggregateNode {
            window,
            keys: prepared.keys.clone(),
            aggregates,
            window_columns,
            allowed_lateness_ms: self.allowed_lateness_ms,
            firing: self.firing,
        };
        let id = self.graph.add(name, OperatorKind::WindowAggregate(node), Arc::clone(&output), vec![port])?;
        let mut columns = Vec::new();
        let mut key = 0_usize;
        let mut push = |position: usize, logical: &FieldRef, time: TimeAttribute| {
            let name = output.field(position).name();
            columns.push(Output { expr: column(name), field: Arc::clone(logical), time });
        };
        let mut logical = aggregate.schema.fields().iter();
        for (group, logical) in groups.iter().zip(logical.by_ref()) {
            match group {
                Group::Key => {
                    push(key, logical, TimeAttribute::None);
                    key += 1;
                }
                Group::Window(wanted) => {
                    let position = window_positions.get(window_name(*wanted)).copied();
                    let position = position.ok_or_else(|| Error::internal("a window column was lost"))?;
                    push(position, logical, attribute(*wanted, spec));
                }
            }
        }
        for (position, logical) in logical.enumerate() {
            push(prepared.keys.len() + position, logical, TimeAttribute::None);
        }
        Ok(Relation::of(id, output, columns))
    }
}

/// An input in which keys and window columns stand at positions.
pub(super) struct Prepared {
    pub(super) inputs: Vec<qanat_proto::ids::OperatorId>,
    pub(super) schema: SchemaRef,
    pub(super) keys: Vec<usize>,
    extra: Vec<usize>,
    pub(super) calls: Vec<Call>,
}

/// An aggregate call over base columns.
pub(super) struct Call {
    pub(super) name: String,
    pub(super) function: String,
    args: Vec<Expr>,
    distinct: bool,
    filter: Option<Expr>,
    order_by: Vec<(Expr, bool, bool)>,
    ignore_nulls: bool,
}

impl Call {
    pub(super) fn new(expr: &Expr, relation: &Relation, schema: &DFSchema, names: &mut UniqueNames) -> Result<Self> {
        let function = match expr {
            Expr::AggregateFunction(function) => function,
            Expr::Alias(alias) => return Self::new(&alias.expr, relation, schema, names),
            other => return Err(Error::internal(format!("`{other}` is no aggregate"))),
        };
        let AggregateFunction { func, params } = function;
        if func.name() == "count" && params.distinct && params.args.len() > 1 {
            let error = Error::new(Code::SqlUnsupported, "COUNT(DISTINCT …) of several columns is not supported yet")
                .hint("write COUNT(DISTINCT (a, b)) FILTER (WHERE a IS NOT NULL AND b IS NOT NULL)");
            return Err(placed(error, place_of(&params.args)));
        }
        let translate = |expr: &Expr| relation.translate(expr, schema);
        let any_row = match params.args.as_slice() {
            [] => true,
            [Expr::Literal(value, _)] => !value.is_null(),
            _ => false,
        };
        let counts_rows = func.name() == "count" && !params.distinct && any_row;
        let args = if counts_rows { Vec::new() } else { params.args.iter().map(translate).collect::<Result<_>>()? };
        let order_by = params.order_by.iter().map(|sort| Ok((translate(&sort.expr)?, !sort.asc, sort.nulls_first)));
        Ok(Self {
            name: names.take(func.name()),
            function: func.name().to_owned(),
            args,
            distinct: params.distinct,
            filter: params.filter.as_deref().map(translate).transpose()?,
            order_by: order_by.collect::<Result<_>>()?,
            ignore_nulls: matches!(params.null_treatment, Some(NullTreatment::IgnoreNulls)),
        })
    }

    fn exprs(&self) -> impl Iterator<Item = &Expr> {
        self.args.iter().chain(&self.filter).chain(self.order_by.iter().map(|(expr, _, _)| expr))
    }

    fn rename(&mut self, names: &BTreeMap<String, String>) -> Result<()> {
        let exprs = self.args.iter_mut().chain(&mut self.filter).chain(self.order_by.iter_mut().map(|(e, _, _)| e));
        for expr in exprs {
            *expr = rename_columns(expr, names)?;
        }
        Ok(())
    }

    pub(super) fn encode(&self, name: String, schema: &DFSchema) -> Result<AggregateCall> {
        Ok(AggregateCall {
            name,
            function: self.function.clone(),
            args: self.args.iter().map(|e| encode(e, schema)).collect::<Result<_>>()?,
            distinct: self.distinct,
            filter: self.filter.as_ref().map(|e| encode(e, schema)).transpose()?,
            order_by: self
                .order_by
                .iter()
                .map(|(expr, descending, nulls_first)| {
                    Ok(SortKey { expr: encode(expr, schema)?, descending: *descending, nulls_first: *nulls_first })
                })
                .collect::<Result<_>>()?,
            ignore_nulls: self.ignore_nulls,
        })
    }
}

/// Which grouping expressions are the window's, and whose window it is. None without a window.
fn classify(relation: &Relation, aggregate: &Aggregate) -> Result<Option<(WindowSpec, Vec<Group>)>> {
    let schema = aggregate.input.schema();
    let mut spec = None;
    let mut groups = Vec::new();
    for expr in &aggregate.group_expr {
        let (column, found) = match relation.time_of(expr, schema) {
            TimeAttribute::WindowStart(found) => (WindowColumn::Start, found),
            TimeAttribute::WindowEnd(found) => (WindowColumn::End, found),
            TimeAttribute::WindowTime(found) => (WindowColumn::Time, found),
            TimeAttribute::None | TimeAttribute::Rowtime | TimeAttribute::Proctime => {
                groups.push(Group::Key);
                continue;
            }
        };
        // A column of a second window is a key like any other.
        if *spec.get_or_insert(found) == found {
            groups.push(Group::Window(column));
        } else {
            groups.push(Group::Key);
        }
    }
    let Some(spec) = spec else { return unwindowed(relation, aggregate).map(|()| None) };
    let has = |wanted: WindowColumn| groups.iter().any(|g| matches!(g, Group::Window(c) if *c == wanted));
    if has(WindowColumn::Start) && has(WindowColumn::End) {
        return Ok(Some((spec, groups)));
    }
    let error = Error::new(Code::TimeAttribute, "a window aggregation groups by both `window_start` and `window_end`")
        .hint("add the missing one to GROUP BY; it changes no group");
    Err(placed(error, place_of(&aggregate.group_expr)))
}

/// No window in GROUP BY.
///
/// # Errors
/// E0109 if it was forgotten.
fn unwindowed(relation: &Relation, aggregate: &Aggregate) -> Result<()> {
    let windowed = matches!(relation.pending, Pending::Window(_))
        || relation.columns.iter().any(|output| matches!(output.time, TimeAttribute::WindowStart(_)));
    if windowed {
        let error = Error::new(
            Code::TimeAttribute,
            "this aggregation over a window table function does not group by its window",
        )
        .hint("add `window_start, window_end` to GROUP BY");
        return Err(placed(error, place_of(aggregate.group_expr.iter().chain(&aggregate.aggr_expr))));
    }
    Ok(())
}

/// Whether window assignment and aggregation can be one operator: nothing but the grouping reads the
/// window's columns, and a session's groups are its partitions.
fn fuses(relation: &Relation, window: &PendingWindow, aggregate: &Aggregate, groups: &[Group]) -> Result<bool> {
    let schema = aggregate.input.schema();
    let pending = relation.pending_names();
    let mut reads = BTreeSet::new();
    for expr in &relation.filter {
        read_columns(expr, &mut reads)?;
    }
    let mut keys = HashSet::new();
    for (expr, group) in aggregate.group_expr.iter().zip(groups) {
        if matches!(group, Group::Key) {
            let key = relation.translate(expr, schema)?;
            read_columns(&key, &mut reads)?;
            keys.insert(relation.index_of(&key));
        }
    }
    for expr in &aggregate.aggr_expr {
        read_columns(&relation.translate(expr, schema)?, &mut reads)?;
    }
    if reads.iter().any(|name| pending.contains(name.as_str())) {
        return Ok(false);
    }
    match window.spec.shape {
        WindowShape::Session { .. } => {
            let partitions: HashSet<Option<usize>> = window.partition_by.iter().map(|index| Some(*index)).collect();
            Ok(relation.filter.is_empty() && keys == partitions)
        }
        WindowShape::Tumble { .. } | WindowShape::Hop { .. } | WindowShape::Cumulate { .. } => Ok(true),
    }
}

fn read_columns(expr: &Expr, names: &mut BTreeSet<String>) -> Result<()> {
    expr.apply(|e| {
        if let Expr::Column(c) = e {
            names.insert(c.name.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map(|_| ())
    .map_err(|e| internal(&e))
}

fn rename_columns(expr: &Expr, names: &BTreeMap<String, String>) -> Result<Expr> {
    use datafusion_common::tree_node::Transformed;
    let renamed = expr.clone().transform(|e| match &e {
        Expr::Column(c) => match names.get(&c.name) {
            Some(name) if *name != c.name => Ok(Transformed::yes(column(name))),
            _ => Ok(Transformed::no(e)),
        },
        _ => Ok(Transformed::no(e)),
    });
    renamed.map(|t| t.data).map_err(|e| internal(&e))
}

fn output(expr: &Expr, name: &str, scope: &DFSchema) -> Result<Output> {
    let (_, field) = expr.to_field(scope).map_err(|e| internal(&e))?;
    let field = Arc::new(Field::new(name, field.data_type().clone(), field.is_nullable()));
    Ok(Output { expr: expr.clone(), field, time: TimeAttribute::None })
}

/// The name of a key's column: that of the column it is, else what it computes.
fn group_name(expr: &Expr) -> String {
    match expr {
        Expr::Alias(alias) => alias.name.clone(),
        Expr::Column(c) => c.name.clone(),
        other => other.schema_name().to_string(),
    }
}

fn window_name(column: WindowColumn) -> &'static str {
    let [start, end, time] = WINDOW_COLUMNS;
    match column {
        WindowColumn::Start => start,
        WindowColumn::End => end,
        WindowColumn::Time => time,
    }
}

fn attribute(column: WindowColumn, spec: WindowSpec) -> TimeAttribute {
    match column {
        WindowColumn::Start => TimeAttribute::WindowStart(spec),
        WindowColumn::End => TimeAttribute::WindowEnd(spec),
        WindowColumn::Time => TimeAttribute::WindowTime(spec),
    }
}
