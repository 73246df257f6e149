//! Logical plans to streaming operators.
//!
//! `plan` hands over optimised plans, one per INSERT; [`Lowering`] adds their operators to one graph.
//! What has no streaming operator is refused here, with a code, a place and a hint: a plan that leaves
//! this module runs with bounded state and gives the batch answer.

mod aggregate;
mod changelog;
mod changes;
mod graph;
mod group;
mod growth;
mod interval_join;
mod join;
mod lookup;
mod over;
mod rank;
mod refuse;
mod regular_join;
mod relation;
mod sink;
mod source;
mod temporal_join;
mod unnest;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Field, SchemaRef};
use datafusion_common::{DFSchema, ScalarValue};
use datafusion_expr::expr_rewriter::coerce_plan_expr_for_schema;
use datafusion_expr::{Expr, Extension, LogicalPlan};
use qanat_proto::changelog::{KIND_COLUMN, RowKind, with_kinds};
use qanat_proto::connector::ConnectorCatalog;
use qanat_proto::error::{Code, Error, Result};
use qanat_proto::graph::{CalcNode, Firing, JobGraph, NamedExpr, OperatorKind};
use qanat_proto::ids::OperatorId;
use qanat_proto::settings::JobSettings;

use self::graph::GraphBuilder;
pub(crate) use self::refuse::placed;
use self::relation::{Output, Pending, Relation, TimeAttribute, TtlHint, internal};
pub(crate) use self::sink::{SinkTarget, print_table};
use self::source::TableUse;
use crate::expr::encode;
use crate::plan::expand::{Expand, LateralUnnest};
use crate::plan::state_ttl::StateTtl;
use crate::plan::temporal::Temporal;
use crate::plan::window_table::WindowTable;

/// Lowers the queries of one script into one set of graphs.
pub(crate) struct Lowering<'a> {
    graph: GraphBuilder,
    connectors: &'a dyn ConnectorCatalog,
    allowed_lateness_ms: i64,
    firing: Firing,
    telling: Telling,
    idle_timeout_ms: u64,
    mini_batch_ms: u64,
    key_groups: u16,
    /// A table is read for its versions.
    reads_versions: bool,
    /// Tables of `STATE_TTL` hints, and whether anything keeps what it says.
    hints: Vec<(String, bool)>,
    /// What all queries of the script together read of each table.
    uses: BTreeMap<String, TableUse>,
    warnings: Vec<String>,
}

/// When windows are told beside their end (`table.exec.emit.*`).
#[derive(Clone, Copy, Debug)]
struct Telling {
    early_ms: Option<u64>,
    late_ms: Option<u64>,
}

impl<'a> Lowering<'a> {
    /// `plans`: all that will be lowered, so that each source is read once with all it is needed for.
    ///
    /// # Errors
    /// E0503 if a plan holds a table that is not ours.
    pub(crate) fn new(
        plans: &[&LogicalPlan],
        settings: &JobSettings,
        connectors: &'a dyn ConnectorCatalog,
    ) -> Result<Self> {
        let mut lowering = Self {
            graph: GraphBuilder::new(settings.state_ttl_ms),
            connectors,
            allowed_lateness_ms: i64::try_from(settings.allowed_lateness_ms).unwrap_or(i64::MAX),
            firing: settings.window_firing,
            telling: Telling {
                early_ms: settings.early_fire.then_some(settings.early_fire_ms),
                late_ms: settings.late_fire.then_some(settings.late_fire_ms),
            },
            idle_timeout_ms: settings.idle_timeout_ms,
            mini_batch_ms: settings.mini_batch_ms,
            key_groups: settings.key_groups,
            reads_versions: false,
            hints: Vec::new(),
            uses: BTreeMap::new(),
            warnings: Vec::new(),
        };
        for plan in plans {
            lowering.collect_uses(plan)?;
        }
        Ok(lowering)
    }

    pub(crate) fn finish(mut self) -> (Vec<JobGraph>, Vec<String>) {
        let mut graphs = self.graph.into_graphs();
        for graph in &mut graphs {
            changelog::drop_unused_ranks(graph);
            changelog::choose(graph);
            self.warnings.extend(growth::warnings(graph));
        }
        let unused = self.hints.iter().filter(|(_, is_used)| !is_used);
        self.warnings.extend(unused.map(|(table, _)| {
            format!(
                "STATE_TTL of `{table}` changes nothing: it is for joins without a window, GROUP BY, row numbers and OVER of \
                 its own SELECT"
            )
        }));
        (graphs, self.warnings)
    }

    /// A hint of which nobody has made use so far.
    fn note_hint(&mut self, hinted: &StateTtl) -> TtlHint {
        self.hints.push((hinted.table.clone(), false));
        TtlHint { number: self.hints.len() - 1, ttl_ms: hinted.ttl_ms }
    }

    /// Adds an operator that may forget: `hints` of its inputs.
    fn add_keeping(
        &mut self,
        (name, kind): (String, OperatorKind),
        output: &SchemaRef,
        ports: Vec<graph::Port>,
        hints: [Option<TtlHint>; 2],
    ) -> Result<OperatorId> {
        if growth::forgets(&kind) {
            for hint in hints.iter().flatten() {
                self.hints.iter_mut().skip(hint.number).take(1).for_each(|(_, is_used)| *is_used = true);
            }
        }
        let ttl_ms = hints.map(|hint| hint.map(|hint| hint.ttl_ms));
        self.graph.add_keeping(name, kind, Arc::clone(output), ports, ttl_ms)
    }

    /// The relation that `plan` describes.
    ///
    /// # Errors
    /// E0102, E0109 or E0110 for what cannot run as a stream.
    fn lower(&mut self, plan: &LogicalPlan) -> Result<Relation> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::SubqueryAlias(alias) => {
                let relation = self.lower(&alias.input)?;
                // Hints of the tables within are not for what is around.
                Ok(with_fields(Relation { hint: None, ..relation }, plan))
            }
            LogicalPlan::Projection(projection) => {
                let relation = self.lower(&projection.input)?;
                let relation = self.project(relation, &projection.expr, &projection.input)?;
                Ok(with_fields(relation, plan))
            }
            LogicalPlan::Filter(filter) => {
                let relation = self.lower(&filter.input)?;
                self.filter(relation, &filter.predicate, &filter.input)
            }
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Union(union) => self.union(plan, &union.inputs),
            LogicalPlan::Window(window) => self.window(window),
            LogicalPlan::Unnest(unnest) => self.unnest(unnest),
            LogicalPlan::Extension(extension) => self.extension(extension, plan),
            LogicalPlan::Sort(sort) => match sort.fetch {
                Some(fetch) => self.first_rows(&sort.expr, &sort.input, (0, fetch), plan),
                None => Err(refuse::order_by(sort)),
            },
            LogicalPlan::Limit(limit) => self.limit(limit, plan),
            LogicalPlan::RecursiveQuery(_) => Err(refuse::unsupported("a recursive query", plan)),
            LogicalPlan::Subquery(_) => Err(refuse::unsupported("a correlated subquery", plan)),
            other => Err(refuse::unsupported(&format!("`{}`", other.display()), plan)),
        }
    }

    fn project(&mut self, relation: Relation, exprs: &[Expr], input: &LogicalPlan) -> Result<Relation> {
        for expr in exprs {
            refuse::subqueries(expr, input)?;
        }
        let relation =
            if relation.must_materialise(exprs, input.schema())? { self.materialise(relation)? } else { relation };
        let mut columns = Vec::with_capacity(exprs.len());
        for expr in exprs {
            let (_, field) =
                datafusion_expr::ExprSchemable::to_field(expr, input.schema()).map_err(|e| internal(&e))?;
            columns.push(Output {
                time: source::proctime_of(expr, relation.time_of(expr, input.schema())),
                expr: relation.translate(expr, input.schema())?,
                field,
            });
        }
        Ok(Relation { columns, ..relation })
    }

    fn filter(&mut self, relation: Relation, predicate: &Expr, input: &LogicalPlan) -> Result<Relation> {
        refuse::subqueries(predicate, input)?;
        let schema = input.schema();
        let volatile = relation.columns.iter().any(|output| output.expr.is_volatile());
        let mut relation = if volatile && !matches!(relation.pending, Pending::Rank(_)) {
            self.materialise(relation)?
        } else {
            relation
        };
        let mut conjuncts = Vec::new();
        for conjunct in datafusion_expr::utils::split_conjunction(predicate) {
            conjuncts.push(relation.translate(conjunct, schema)?);
        }
        if let Pending::Rank(rank) = relation.pending.clone() {
            return self.filter_rank(relation, &rank, conjuncts);
        }
        relation.filter.extend(conjuncts);
        Ok(relation)
    }

    /// `UNION ALL`: the rows of all inputs, as one relation with several producers.
    fn union(&mut self, plan: &LogicalPlan, inputs: &[Arc<LogicalPlan>]) -> Result<Relation> {
        let mut producers = Vec::new();
        let mut common: Option<(SchemaRef, Vec<TimeAttribute>)> = None;
        let mut branches = Vec::new();
        for input in inputs {
            let coerced =
                coerce_plan_expr_for_schema(input.as_ref().clone(), plan.schema()).map_err(|e| internal(&e))?;
            let relation = self.lower(&coerced)?;
            let relation = with_fields(relation, plan);
            // One schema for all: nullable wherever any input is, and the names of the first.
            branches.push(self.materialise_as(relation, plan)?);
        }
        let changes = branches.iter().any(Relation::is_changelog);
        for relation in branches {
            let relation = if changes && !relation.is_changelog() { self.with_kinds(relation)? } else { relation };
            match &mut common {
                None => common = Some((Arc::clone(&relation.base), relation.times())),
                Some((_, times)) => {
                    for (time, other) in times.iter_mut().zip(relation.times()) {
                        if *time != other {
                            *time = TimeAttribute::None;
                        }
                    }
                }
            }
            producers.extend(relation.inputs);
        }
        let (base, times) = common.ok_or_else(|| Error::internal("a union without inputs"))?;
        Ok(with_fields(Relation::over(producers, base, &times), plan))
    }

    /// One branch of a union: always columns under the union's names and types.
    fn materialise_as(&mut self, relation: Relation, plan: &LogicalPlan) -> Result<Relation> {
        let mut names = relation::UniqueNames::default();
        let wanted: Vec<_> = plan
            .schema()
            .fields()
            .iter()
            .map(|f| Arc::new(Field::new(names.take(f.name()), f.data_type().clone(), f.is_nullable())))
            .collect();
        let mut relation = self.append_pending(relation)?;
        for (output, field) in relation.columns.iter_mut().zip(&wanted) {
            output.field = Arc::clone(field);
        }
        let same = relation.is_identity()
            && relation.base.fields().iter().zip(&wanted).all(|(have, want)| {
                let same_type = have.name() == want.name() && have.data_type() == want.data_type();
                same_type && have.is_nullable() == want.is_nullable()
            });
        if same { Ok(relation) } else { self.materialise_always(relation) }
    }

    /// New rows as a changelog. The relation's rows are its columns.
    fn with_kinds(&mut self, relation: Relation) -> Result<Relation> {
        let mut projection = relation::identity(&relation.base)?;
        let scope = DFSchema::try_from(Arc::clone(&relation.base)).map_err(|e| internal(&e))?;
        let kind = Expr::Literal(ScalarValue::Int8(Some(RowKind::Insert.code())), None);
        projection.push(NamedExpr { name: KIND_COLUMN.to_owned(), expr: encode(&kind, &scope)? });
        let output = with_kinds(&relation.base);
        let kind = OperatorKind::Calc(CalcNode { filter: None, projection });
        let ports = vec![graph::Port::forward(&relation.inputs)];
        let id = self.graph.add("Calc".to_owned(), kind, Arc::clone(&output), ports)?;
        Ok(Relation { hint: relation.hint, ..Relation::over(vec![id], output, &relation.times()) })
    }

    fn materialise_always(&mut self, relation: Relation) -> Result<Relation> {
        let (node, output) = relation::calc_of(&relation)?;
        let ports = vec![graph::Port::forward(&relation.inputs)];
        let kind = OperatorKind::Calc(node);
        let id = self.graph.add("Calc".to_owned(), kind, Arc::clone(&output), ports)?;
        Ok(Relation { hint: relation.hint, ..Relation::over(vec![id], output, &relation.times()) })
    }

    fn extension(&mut self, extension: &Extension, plan: &LogicalPlan) -> Result<Relation> {
        let node = extension.node.as_any();
        if let Some(table) = node.downcast_ref::<WindowTable>() {
            return self.window_table(table);
        }
        if let Some(expand) = node.downcast_ref::<Expand>() {
            return self.expand(expand);
        }
        if let Some(hinted) = node.downcast_ref::<StateTtl>() {
            let relation = self.lower(&hinted.input)?;
            return Ok(Relation { hint: Some(self.note_hint(hinted)), ..relation });
        }
        if node.is::<Temporal>() {
            return Err(Error::new(Code::SqlUnsupported, "FOR SYSTEM_TIME AS OF stands outside a join")
                .hint("write `FROM stream AS s JOIN t FOR SYSTEM_TIME AS OF s.proctime AS t ON …`"));
        }
        if node.is::<LateralUnnest>() {
            return Err(refuse::unsupported("UNNEST without a table before it", plan)
                .hint("write `FROM t CROSS JOIN UNNEST(t.items) AS i (…)`"));
        }
        Err(Error::internal(format!("no lowering for `{}`", extension.node.name())))
    }
}

/// Takes the names and types of `plan`'s columns.
fn with_fields(mut relation: Relation, plan: &LogicalPlan) -> Relation {
    for (output, field) in relation.columns.iter_mut().zip(plan.schema().fields()) {
        output.field = Arc::clone(field);
    }
    relation
}
