//! A relation while it is lowered: rows of operators that exist, with a filter and a projection over them
//! that do not exist yet.
//!
//! Projections and filters only change the description; an operator is made when one is needed
//! ([`Lowering::materialise`]). So a chain of sub-queries, views and computed columns becomes one
//! `Calc`, and a window function meets the aggregate above it with nothing in between.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column, DFSchema, DataFusionError, ScalarValue};
use datafusion_expr::utils::conjunction;
use datafusion_expr::{Cast, Expr};
use qanat_proto::changelog::{KIND_COLUMN, has_kinds, kind_field, width, with_kinds, without_kinds};
use qanat_proto::error::{Code, Error, Result};
use qanat_proto::graph::{
    AssignWindowNode, CalcNode, EncodedExpr, NamedExpr, OperatorKind, RankFunction, SortKey, Ties, TimeDomain,
    TopNNode, WindowShape, WindowTopNNode,
};
use qanat_proto::ids::OperatorId;

use super::Lowering;
use super::graph::Port;
use crate::expr::{encode, sql_text};
use crate::plan::window_table::{WINDOW_COLUMNS, shape_text};

/// Which window a window column belongs to: two streams join by window only if theirs are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WindowSpec {
    pub(crate) shape: WindowShape,
    pub(crate) domain: TimeDomain,
}

/// What a column knows about time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeAttribute {
    None,
    /// Watermarked event time.
    Rowtime,
    Proctime,
    WindowStart(WindowSpec),
    WindowEnd(WindowSpec),
    WindowTime(WindowSpec),
}

/// A column of a relation: an expression over the base columns.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(crate) expr: Expr,
    pub(crate) field: FieldRef,
    pub(crate) time: TimeAttribute,
}

/// Columns that the next operator will append to the base.
#[derive(Clone, Debug)]
pub(crate) enum Pending {
    None,
    Window(PendingWindow),
    Rank(PendingRank),
}

#[derive(Clone, Debug)]
pub(crate) struct PendingWindow {
    pub(crate) spec: WindowSpec,
    /// Base columns.
    pub(crate) time_column: usize,
    pub(crate) partition_by: Vec<usize>,
    /// Names of start, end and time among the base's names.
    pub(crate) names: [String; 3],
}

#[derive(Clone, Debug)]
pub(crate) struct PendingRank {
    pub(crate) function: RankFunction,
    /// The window in which rows are ranked, and its base columns; None: of all rows there are.
    pub(crate) window: Option<(WindowSpec, (usize, usize))>,
    /// Base columns.
    pub(crate) partition_by: Vec<usize>,
    pub(crate) ties: Ties,
    pub(crate) order_by: Vec<(Expr, bool, bool)>,
    pub(crate) name: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Relation {
    /// Producers of the base rows; several are a union.
    pub(crate) inputs: Vec<OperatorId>,
    pub(crate) base: SchemaRef,
    pub(crate) pending: Pending,
    /// Conjuncts over the base and pending columns.
    pub(crate) filter: Vec<Expr>,
    /// Aligned with the schema of the logical plan.
    pub(crate) columns: Vec<Output>,
    /// What a hint says of the state of whatever reads it.
    pub(crate) hint: Option<TtlHint>,
}

/// A `STATE_TTL` hint of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TtlHint {
    /// Among the hints of a script.
    pub(crate) number: usize,
    pub(crate) ttl_ms: u64,
}

impl Relation {
    /// All columns of `base` as they are, but for the kinds of a changelog. `times` describe them to the logical plan.
    pub(crate) fn over(inputs: Vec<OperatorId>, base: SchemaRef, times: &[TimeAttribute]) -> Self {
        let columns = base.fields().iter().take(width(&base)).enumerate().map(|(index, field)| Output {
            expr: column(field.name()),
            field: Arc::clone(field),
            time: times.get(index).copied().unwrap_or(TimeAttribute::None),
        });
        let columns = columns.collect();
        Self { inputs, base, pending: Pending::None, filter: Vec::new(), columns, hint: None }
    }

    /// The rows of an operator, and what the logical plan makes of them.
    pub(crate) fn of(operator: OperatorId, base: SchemaRef, columns: Vec<Output>) -> Self {
        Self { inputs: vec![operator], base, pending: Pending::None, filter: Vec::new(), columns, hint: None }
    }

    /// Base and pending columns: what `filter` and `columns` are over. The kinds of a changelog are the last of the base.
    pub(crate) fn scope(&self) -> Result<DFSchema> {
        let mut fields: Vec<FieldRef> = self.base.fields().iter().cloned().collect();
        match &self.pending {
            Pending::None => {}
            Pending::Window(window) => fields.extend(window.names.iter().map(|name| window_field(name))),
            Pending::Rank(rank) => fields.push(Arc::new(Field::new(&rank.name, DataType::Int64, false))),
        }
        DFSchema::try_from(Schema::new(fields)).map_err(|e| internal(&e))
    }

    /// Names of the pending columns.
    pub(crate) fn pending_names(&self) -> HashSet<&str> {
        match &self.pending {
            Pending::None => HashSet::new(),
            Pending::Window(window) => window.names.iter().map(String::as_str).collect(),
            Pending::Rank(rank) => std::iter::once(rank.name.as_str()).collect(),
        }
    }

    /// `expr`, over the logical plan's `schema`, as an expression over base and pending columns.
    pub(crate) fn translate(&self, expr: &Expr, schema: &DFSchema) -> Result<Expr> {
        expr.clone()
            .transform_up(|e| match e {
                Expr::Column(c) => {
                    let index = schema.index_of_column(&c)?;
                    let output = self.columns.get(index).ok_or_else(|| {
                        DataFusionError::Internal(format!("column {c} is not among the relation's columns"))
                    })?;
                    Ok(Transformed::yes(output.expr.clone()))
                }
                Expr::Alias(alias) => Ok(Transformed::yes(*alias.expr)),
                Expr::Cast(cast) => Ok(Transformed::yes(self.simplify_cast(cast))),
                other => Ok(Transformed::no(other)),
            })
            .map(|t| t.data)
            .map_err(|e| internal(&e))
    }

    /// A cast that only undoes one of the planner's own, `CAST(CAST(rank AS UInt64) AS Int64)`, is dropped:
    /// row numbers are UInt64 to DataFusion and BIGINT here.
    fn simplify_cast(&self, cast: Cast) -> Expr {
        if let Expr::Cast(inner) = cast.expr.as_ref()
            && let Expr::Column(c) = inner.expr.as_ref()
            && inner.field.data_type() == &DataType::UInt64
            && cast.field.data_type() == &DataType::Int64
            && (self.pending_names().contains(c.name.as_str())
                || self.base.field_with_name(&c.name).is_ok_and(|f| f.data_type() == &DataType::Int64))
        {
            return (*inner.expr).clone();
        }
        Expr::Cast(cast)
    }

    /// The column that `expr` is, if it is one, with or without an alias.
    pub(crate) fn output_of(&self, expr: &Expr, schema: &DFSchema) -> Option<&Output> {
        match expr {
            Expr::Alias(alias) => self.output_of(&alias.expr, schema),
            Expr::Column(c) => schema.index_of_column(c).ok().and_then(|index| self.columns.get(index)),
            _ => None,
        }
    }

    pub(crate) fn time_of(&self, expr: &Expr, schema: &DFSchema) -> TimeAttribute {
        self.output_of(expr, schema).map_or(TimeAttribute::None, |output| output.time)
    }

    /// Whether composing `exprs` onto this relation would compute something twice, or evaluate a volatile
    /// expression somewhere else than it was written.
    pub(crate) fn must_materialise(&self, exprs: &[Expr], schema: &DFSchema) -> Result<bool> {
        let mut uses = vec![0_usize; self.columns.len()];
        for expr in exprs {
            expr.apply(|e| {
                if let Expr::Column(c) = e
                    && let Some(count) = schema.index_of_column(c).ok().and_then(|index| uses.get_mut(index))
                {
                    *count += 1;
                }
                Ok(TreeNodeRecursion::Continue)
            })
            .map_err(|e| internal(&e))?;
        }
        let costly = |expr: &Expr| !matches!(expr, Expr::Column(_) | Expr::Literal(..)) && !is_cast_of_column(expr);
        let mut outputs = self.columns.iter().zip(uses);
        Ok(outputs.any(|(o, uses)| (uses > 1 && costly(&o.expr)) || (uses > 0 && o.expr.is_volatile())))
    }

    /// The columns that expressions over the logical plan's `schema` are; those that are none yet get one behind all others,
    /// called `name`.
    pub(crate) fn columns_of<'e>(
        &mut self,
        exprs: impl IntoIterator<Item = &'e Expr>,
        schema: &DFSchema,
        name: &str,
    ) -> Result<Vec<usize>> {
        let mut positions = Vec::new();
        for expr in exprs {
            let translated = self.translate(expr, schema)?;
            let known = self.columns.iter().position(|out| out.expr == translated);
            positions.push(known.unwrap_or(self.columns.len()));
            if known.is_none() {
                let (_, field) = datafusion_expr::ExprSchemable::to_field(expr, schema).map_err(|e| internal(&e))?;
                let field = Arc::new(field.as_ref().clone().with_name(name));
                self.columns.push(Output { expr: translated, field, time: TimeAttribute::None });
            }
        }
        Ok(positions)
    }

    /// The base index of column `position`, if it is a plain base column.
    pub(crate) fn base_index(&self, position: usize) -> Option<usize> {
        self.columns.get(position).and_then(|output| self.index_of(&output.expr))
    }

    /// The base index that `expr` (over the base) names, if it is a plain column.
    pub(crate) fn index_of(&self, expr: &Expr) -> Option<usize> {
        match expr {
            Expr::Column(c) => self.base.column_with_name(&c.name).map(|(index, _)| index),
            _ => None,
        }
    }

    /// Whether the rows of `inputs` are the relation, column by column.
    pub(crate) fn is_identity(&self) -> bool {
        matches!(self.pending, Pending::None)
            && self.filter.is_empty()
            && self.columns.len() == width(&self.base)
            && (0..self.columns.len()).all(|position| self.base_index(position) == Some(position))
    }

    /// Whether its rows have kinds.
    pub(crate) fn is_changelog(&self) -> bool {
        has_kinds(&self.base)
    }

    /// Whether the rows of `inputs` are the relation, though more columns may be there.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self.pending, Pending::None)
            && self.filter.is_empty()
            && (0..self.columns.len()).all(|position| self.base_index(position).is_some())
    }

    /// For what holds rows until their window closes: the event times of these rows are behind the watermark
    /// then, and only `window_time` is not.
    pub(crate) fn forget_rowtime(&mut self) {
        for output in self.columns.iter_mut().filter(|output| matches!(output.time, TimeAttribute::Rowtime)) {
            output.time = TimeAttribute::None;
        }
    }

    pub(crate) fn times(&self) -> Vec<TimeAttribute> {
        self.columns.iter().map(|output| output.time).collect()
    }
}

impl Lowering<'_> {
    /// Makes operators for what is pending; afterwards [`Relation::is_identity`] holds.
    pub(crate) fn materialise(&mut self, relation: Relation) -> Result<Relation> {
        let relation = self.append_pending(relation)?;
        if relation.is_identity() {
            return Ok(relation);
        }
        let times = relation.times();
        let (node, output) = calc_of(&relation)?;
        let ports = vec![Port::forward(&relation.inputs)];
        let id = self.graph.add("Calc".to_owned(), OperatorKind::Calc(node), Arc::clone(&output), ports)?;
        let made = Relation { hint: relation.hint, ..Relation::over(vec![id], output, &times) };
        Ok(rename(made, &relation.columns))
    }

    /// As [`Self::materialise`], but leaves columns that nobody asked for where that saves an operator.
    pub(crate) fn materialise_plain(&mut self, relation: Relation) -> Result<Relation> {
        let relation = self.append_pending(relation)?;
        if relation.is_plain() { Ok(relation) } else { self.materialise(relation) }
    }

    /// Makes the operator that appends pending window columns.
    ///
    /// # Errors
    /// E0110 if a row number is pending that no filter bounds.
    pub(crate) fn append_pending(&mut self, relation: Relation) -> Result<Relation> {
        let window = match &relation.pending {
            Pending::None => return Ok(relation),
            Pending::Rank(_) => return Err(super::rank::unbounded_rank()),
            Pending::Window(window) => window.clone(),
        };
        let mut fields: Vec<FieldRef> = relation.base.fields().iter().cloned().collect();
        fields.extend(window.names.iter().map(|name| window_field(name)));
        let output: SchemaRef = Arc::new(Schema::new(fields));
        let port = match window.spec.shape {
            WindowShape::Session { .. } => Port::hash(&relation.inputs, window.partition_by.clone()),
            WindowShape::Tumble { .. } | WindowShape::Hop { .. } | WindowShape::Cumulate { .. } => {
                Port::forward(&relation.inputs)
            }
        };
        let node = AssignWindowNode {
            shape: window.spec.shape,
            domain: window.spec.domain,
            time_column: window.time_column,
            partition_by: window.partition_by,
            allowed_lateness_ms: self.allowed_lateness_ms,
            firing: self.firing,
        };
        let name = format!("AssignWindow({})", shape_text(&window.spec.shape));
        let id = self.graph.add(name, OperatorKind::AssignWindow(node), Arc::clone(&output), vec![port])?;
        Ok(Relation { inputs: vec![id], base: output, pending: Pending::None, ..relation })
    }

    /// Makes the Top-N operator of a pending rank.
    pub(crate) fn append_rank(
        &mut self,
        relation: Relation,
        rank: &PendingRank,
        skip: usize,
        limit: usize,
    ) -> Result<Relation> {
        let base = DFSchema::try_from(Arc::clone(&relation.base)).map_err(|e| internal(&e))?;
        let order_by = rank
            .order_by
            .iter()
            .map(|(expr, descending, nulls_first)| {
                Ok(SortKey { expr: encode(expr, &base)?, descending: *descending, nulls_first: *nulls_first })
            })
            .collect::<Result<_>>()?;
        let rows = without_kinds(&relation.base);
        let rank_field = Arc::new(Field::new(&rank.name, DataType::Int64, false));
        let with_rank: SchemaRef =
            Arc::new(Schema::new(rows.fields().iter().cloned().chain([rank_field]).collect::<Vec<_>>()));
        let Some((spec, window)) = rank.window else {
            // One number needs no column.
            let is_constant = limit == skip + 1;
            let node = TopNNode {
                function: rank.function,
                partition_by: rank.partition_by.clone(),
                order_by,
                ties: rank.ties,
                limit,
                skip,
                rank_column: (!is_constant).then(|| rank.name.clone()),
                mini_batch_ms: self.mini_batch_ms,
            };
            let output = if is_constant { rows } else { with_rank };
            let is_final = node.is_final() && !relation.is_changelog();
            let output = if is_final { output } else { with_kinds(&output) };
            let ports = vec![Port::hash(&relation.inputs, rank.partition_by.clone())];
            let kind = OperatorKind::TopN(node);
            let id = self.add_keeping((format!("TopN({limit})"), kind), &output, ports, [relation.hint, None])?;
            let mut relation =
                Relation { inputs: vec![id], base: output, pending: Pending::None, hint: None, ..relation };
            if is_constant {
                let number = i64::try_from(limit).unwrap_or(i64::MAX);
                for expr in relation.columns.iter_mut().map(|out| &mut out.expr).chain(&mut relation.filter) {
                    *expr = with_constant(expr, &rank.name, number)?;
                }
            }
            return Ok(relation);
        };
        let mut columns = rank.partition_by.clone();
        columns.extend([window.0, window.1]);
        let node = WindowTopNNode {
            window,
            domain: spec.domain,
            function: rank.function,
            partition_by: rank.partition_by.clone(),
            order_by,
            limit,
            skip,
            rank_column: Some(rank.name.clone()),
            allowed_lateness_ms: self.allowed_lateness_ms,
        };
        let name = format!("WindowTopN({limit})");
        let ports = vec![Port::hash(&relation.inputs, columns)];
        let id = self.graph.add(name, OperatorKind::WindowTopN(node), Arc::clone(&with_rank), ports)?;
        Ok(Relation { inputs: vec![id], base: with_rank, pending: Pending::None, ..relation })
    }
}

/// `expr` with a number where it has the column.
fn with_constant(expr: &Expr, name: &str, number: i64) -> Result<Expr> {
    let constant = |e| match e {
        Expr::Column(c) if c.name == name => {
            Ok(Transformed::yes(Expr::Literal(ScalarValue::Int64(Some(number)), None)))
        }
        other => Ok(Transformed::no(other)),
    };
    expr.clone().transform_up(constant).map(|t| t.data).map_err(|e| internal(&e))
}

/// Gives a fresh relation the logical names and types of `columns`.
fn rename(mut relation: Relation, columns: &[Output]) -> Relation {
    for (new, old) in relation.columns.iter_mut().zip(columns) {
        new.field = Arc::clone(&old.field);
    }
    relation
}

/// The Calc of a relation without pending columns, with its output schema: unique names, types as the
/// expressions have them.
pub(crate) fn calc_of(relation: &Relation) -> Result<(CalcNode, SchemaRef)> {
    use datafusion_expr::ExprSchemable;
    let scope = relation.scope()?;
    let drawn =
        relation.columns.iter().map(|output| &output.expr).chain(&relation.filter).find(|expr| expr.is_volatile());
    if let Some(expr) = drawn.filter(|_| relation.is_changelog()) {
        let message =
            format!("`{}` gives another value each time, and rows of this query are taken back", sql_text(expr));
        let error = Error::new(Code::ChangelogRefused, message).hint("compute it before rows change, or leave it out");
        return Err(super::refuse::placed(error, super::refuse::place_of([expr])));
    }
    let mut names = UniqueNames::default();
    let mut projection = Vec::with_capacity(relation.columns.len());
    let mut fields = Vec::with_capacity(relation.columns.len());
    for output in &relation.columns {
        let name = names.take(output.field.name());
        let (_, field) = output.expr.to_field(&scope).map_err(|e| internal(&e))?;
        // A column of a union is nullable if it is so in any branch.
        let is_nullable = field.is_nullable() || output.field.is_nullable();
        fields.push(Arc::new(Field::new(&name, field.data_type().clone(), is_nullable)));
        projection.push(NamedExpr { name, expr: encode(&output.expr, &scope)? });
    }
    if relation.is_changelog() {
        fields.push(Arc::new(kind_field()));
        projection.push(NamedExpr { name: KIND_COLUMN.to_owned(), expr: encode(&column(KIND_COLUMN), &scope)? });
    }
    let filter = encode_conjuncts(&relation.filter, &scope)?;
    Ok((CalcNode { filter, projection }, Arc::new(Schema::new(fields))))
}

/// `None` for no conjuncts.
pub(crate) fn encode_conjuncts(conjuncts: &[Expr], scope: &DFSchema) -> Result<Option<EncodedExpr>> {
    conjunction(conjuncts.iter().cloned()).map(|expr| encode(&expr, scope)).transpose()
}

/// The projection that changes nothing.
pub(crate) fn identity(schema: &SchemaRef) -> Result<Vec<NamedExpr>> {
    let scope = DFSchema::try_from(Arc::clone(schema)).map_err(|e| internal(&e))?;
    let named =
        |field: &FieldRef| Ok(NamedExpr { name: field.name().clone(), expr: encode(&column(field.name()), &scope)? });
    schema.fields().iter().map(named).collect()
}

/// Hands out names that are unique within one schema: the first keeps its name, others get a number.
#[derive(Debug, Default)]
pub(crate) struct UniqueNames(HashSet<String>);

impl UniqueNames {
    pub(crate) fn of(schema: &SchemaRef) -> Self {
        Self(schema.fields().iter().map(|f| f.name().clone()).collect())
    }

    pub(crate) fn take(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        let mut number = 0_usize;
        while !self.0.insert(name.clone()) {
            number += 1;
            name = format!("{wanted}_{number}");
        }
        name
    }
}

pub(crate) fn column(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

pub(crate) fn window_field(name: &str) -> FieldRef {
    Arc::new(Field::new(name, DataType::Timestamp(TimeUnit::Millisecond, None), false))
}

/// Names of the three window columns that none of `base` has.
pub(crate) fn window_names(base: &SchemaRef) -> [String; 3] {
    let mut names = UniqueNames::of(base);
    WINDOW_COLUMNS.map(|name| names.take(name))
}

pub(crate) fn internal(error: &DataFusionError) -> Error {
    Error::internal(error.strip_backtrace())
}

fn is_cast_of_column(expr: &Expr) -> bool {
    match expr {
        Expr::Cast(cast) => matches!(cast.expr.as_ref(), Expr::Column(_)),
        _ => false,
    }
}
