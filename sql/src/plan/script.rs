//! Runs through the statements: declarations fill the catalog, queries become plans, and at the end all
//! INSERTs together are lowered, so that what they share runs once.

use std::collections::BTreeMap;

use datafusion_common::tree_node::TreeNodeRecursion;
use datafusion_expr::LogicalPlan;
use datafusion_sql::sqlparser::ast::{self, Spanned};
use qanat_proto::connector::{ConnectorCatalog, Delivery, Role, TableDescriptor};
use qanat_proto::error::{Code, Error, Place, Result, nearest};
use qanat_proto::graph::JobGraph;
use qanat_proto::ids::OperatorId;
use qanat_proto::limits::{COLUMNS_MAX, JOINS_MAX, PLAN_NODES_MAX};
use qanat_proto::settings::{JobSettings, KEYS};

use super::context::Context;
use super::culprit;
use super::listing;
use super::optimize::optimize;
use super::values;
use crate::catalog::{BoundTable, Catalog, Entry};
use crate::lower::{Lowering, SinkTarget, print_table};
use crate::parse::{ExplainTarget, Insert, Located, Statement, parse_script, place_of};
use crate::rules::names::number_duplicates;
use crate::types::check_depth;
use crate::{PlanOptions, PlannedInsert, PlannedJob, PlannedScript};

/// Plans a script. The caller gives it a deep stack.
pub(crate) fn plan(text: &str, options: &PlanOptions, connectors: &dyn ConnectorCatalog) -> Result<PlannedScript> {
    let script = parse_script(text, &options.variables)?;
    let mut planner = ScriptPlanner {
        connectors,
        catalog: Catalog::default(),
        pairs: BTreeMap::new(),
        options,
        inserts: Vec::new(),
        explains: Vec::new(),
        listings: Vec::new(),
    };
    for located in &script.statements {
        planner.statement(located).map_err(|error| error.or_at(|| located.place()))?;
    }
    planner.finish()
}

struct ScriptPlanner<'a> {
    connectors: &'a dyn ConnectorCatalog,
    catalog: Catalog,
    /// What SET says so far.
    pairs: BTreeMap<String, String>,
    options: &'a PlanOptions,
    inserts: Vec<Query>,
    explains: Vec<String>,
    listings: Vec<String>,
}

/// A query with its destination.
struct Query {
    plan: LogicalPlan,
    table: TableDescriptor,
    columns: Vec<String>,
    constants: Vec<(String, datafusion_expr::Expr)>,
    /// Of the columns that it selects.
    places: Vec<Option<Place>>,
    overwrite: bool,
    any_schema: bool,
    place: Place,
    text: String,
}

impl ScriptPlanner<'_> {
    fn statement(&mut self, located: &Located) -> Result<()> {
        match &located.statement {
            Statement::CreateTable(declaration) => {
                let empty = Catalog::default();
                let context = Context::new(&empty, self.connectors);
                self.catalog
                    .create_table(declaration, self.connectors, &|expr, schema| context.expression(expr, schema))
            }
            Statement::CreateView(view) => {
                // Planned once here, so that a mistake is reported even if nobody reads the view; and before it
                // has its name, so that it cannot read itself.
                self.typed(&view.query)?;
                self.catalog.create_view(view)
            }
            Statement::CreateFunction(function) => self.catalog.create_function(function),
            Statement::Insert(insert) => {
                let query = self.insert(insert, located)?;
                self.inserts.push(query);
                Ok(())
            }
            Statement::StatementSet(inserts) => {
                for insert in inserts {
                    let query = self.insert(insert, located)?;
                    self.inserts.push(query);
                }
                Ok(())
            }
            Statement::Query(query) => {
                let query = self.print(query, located)?;
                self.inserts.push(query);
                Ok(())
            }
            Statement::Explain(explain) => {
                let queries = match &explain.target {
                    ExplainTarget::Query(query) => vec![self.print(query, located)?],
                    ExplainTarget::Insert(insert) => vec![self.insert(insert, located)?],
                    ExplainTarget::StatementSet(inserts) => {
                        inserts.iter().map(|insert| self.insert(insert, located)).collect::<Result<_>>()?
                    }
                };
                let (jobs, _) = lower(&queries, &self.settings()?, self.connectors)?;
                self.explains.push(crate::explain::jobs(&jobs));
                Ok(())
            }
            Statement::Set(Some((key, value))) => {
                JobSettings::default().set(key, value)?;
                self.pairs.insert(key.clone(), value.clone());
                Ok(())
            }
            Statement::Set(None) => {
                self.listings.push(listing::settings(&self.pairs, self.options));
                Ok(())
            }
            Statement::Reset(Some(key)) => {
                if !KEYS.contains(&key.as_str()) {
                    let error = Error::new(Code::BadSetting, format!("unknown setting `{key}`"));
                    return Err(match nearest(key, KEYS.iter().copied()) {
                        Some(near) => error.hint(format!("did you mean `{near}`?")),
                        None => error,
                    });
                }
                self.pairs.remove(key);
                Ok(())
            }
            Statement::Reset(None) => {
                self.pairs.clear();
                Ok(())
            }
            Statement::DropTable(target) => self.catalog.drop(target, false),
            Statement::DropView(target) => self.catalog.drop(target, true),
            Statement::ShowTables => {
                self.listings.push(listing::tables(&self.catalog, false));
                Ok(())
            }
            Statement::ShowViews => {
                self.listings.push(listing::tables(&self.catalog, true));
                Ok(())
            }
            Statement::ShowFunctions => {
                self.listings.push(listing::functions());
                Ok(())
            }
            Statement::ShowCreate(name) => {
                let text = match self.catalog.resolve(name)? {
                    Entry::Table(table) => listing::create_table(table),
                    Entry::View(view) => format!("CREATE VIEW {} AS\n{}", view.name, view.text),
                };
                self.listings.push(text);
                Ok(())
            }
            Statement::Describe(name) => {
                let text = match self.catalog.resolve(name)? {
                    Entry::Table(table) => listing::describe_table(table),
                    Entry::View(view) => listing::describe(self.typed(&view.query)?.schema().inner()),
                };
                self.listings.push(text);
                Ok(())
            }
        }
    }

    /// The settings as of now: the command line's go before the script's.
    fn settings(&self) -> Result<JobSettings> {
        let mut pairs = self.pairs.clone();
        pairs.extend(self.options.settings.clone());
        JobSettings::from_pairs(&pairs)
    }

    fn optimized(&self, query: &ast::Query) -> Result<LogicalPlan> {
        let mut numbered = query.clone();
        let context = Context::new(&self.catalog, self.connectors);
        number_duplicates(&mut numbered.body, &|select| context.wildcards(select, query));
        values::to_tables(self.typed(&numbered)?, self.connectors)
    }

    /// The optimized plan, whose expressions have types; or an error at the expression that is wrong.
    fn typed(&self, query: &ast::Query) -> Result<LogicalPlan> {
        let attempt = |query: &ast::Query| {
            let context = Context::new(&self.catalog, self.connectors);
            let plan = context.query(query)?;
            within_limits(&plan)?;
            optimize(plan, context.config())
        };
        attempt(query).map_err(|error| culprit::placed(error, query, attempt))
    }

    fn insert(&self, insert: &Insert, located: &Located) -> Result<Query> {
        let table = self.sink(&insert.table, &insert.place)?;
        let plan = self.optimized(&insert.query)?;
        let empty = std::sync::Arc::new(arrow::datatypes::Schema::empty());
        let context = Context::new(&self.catalog, self.connectors);
        let constants = insert
            .partition
            .iter()
            .map(|(column, value)| Ok((column.value.clone(), context.expression(value, &empty)?)))
            .collect::<Result<_>>()?;
        let columns: Vec<String> = insert.columns.iter().map(|column| column.value.clone()).collect();
        for (index, column) in columns.iter().enumerate() {
            if columns.iter().take(index).any(|earlier| earlier == column) {
                let message = format!("column `{column}` stands twice in INSERT INTO");
                return Err(Error::new(Code::SqlDuplicate, message).at(insert.place.clone()));
            }
        }
        Ok(Query {
            plan,
            table: table.descriptor.clone(),
            columns,
            constants,
            places: column_places(&insert.query.body),
            overwrite: insert.overwrite,
            any_schema: false,
            place: insert.place.clone(),
            text: located.text.clone(),
        })
    }

    fn sink(&self, name: &ast::ObjectName, place: &Place) -> Result<std::sync::Arc<BoundTable>> {
        match self.catalog.resolve(name).map_err(|error| error.or_at(|| place.clone()))? {
            Entry::Table(table) => {
                table.traits(Role::Sink, self.connectors).map_err(|error| match error.code() {
                    // The declaration is fine; writing into it is not.
                    Code::BadRole => error.at(place.clone()),
                    _ => error,
                })?;
                Ok(std::sync::Arc::clone(table))
            }
            Entry::View(_) => {
                let message = format!("`{name}` is a view, and rows cannot be inserted into it");
                Err(Error::new(Code::BadRole, message).at(place.clone()))
            }
        }
    }

    /// A bare SELECT prints its rows.
    fn print(&self, query: &ast::Query, located: &Located) -> Result<Query> {
        let plan = self.optimized(query)?;
        let table = print_table(plan.schema().inner());
        self.connectors.check(&table, Role::Sink)?;
        Ok(Query {
            plan,
            table,
            columns: Vec::new(),
            constants: Vec::new(),
            places: Vec::new(),
            overwrite: false,
            any_schema: true,
            place: located.place(),
            text: located.text.clone(),
        })
    }

    fn finish(self) -> Result<PlannedScript> {
        let settings = self.settings()?;
        if self.inserts.is_empty() && self.explains.is_empty() && self.listings.is_empty() {
            return Err(Error::new(Code::NothingToRun, "the script holds nothing to run")
                .hint("add an INSERT INTO or a SELECT"));
        }
        let (jobs, mut warnings) = lower(&self.inserts, &settings, self.connectors)?;
        for query in &self.inserts {
            let traits = self.connectors.check(&query.table, Role::Sink)?;
            if traits.delivery == Delivery::AtLeastOnce {
                warnings.push(format!(
                    "table `{}` ({}) shows rows at least once: a crash may show some again",
                    query.table.name, query.table.connector
                ));
            }
        }
        warnings.dedup();
        Ok(PlannedScript { jobs, explains: self.explains, listings: self.listings, settings, warnings })
    }
}

/// Where the columns of a SELECT stand; nothing of one with a wildcard, or of a set operation.
fn column_places(body: &ast::SetExpr) -> Vec<Option<Place>> {
    let ast::SetExpr::Select(select) = body else { return Vec::new() };
    let place = |item: &ast::SelectItem| match item {
        ast::SelectItem::UnnamedExpr(expr) | ast::SelectItem::ExprWithAlias { expr, .. } => Some(place_of(expr.span())),
        _ => None,
    };
    select.projection.iter().map(place).collect::<Option<_>>().unwrap_or_default()
}

/// Size, joins and columns of one query.
fn within_limits(plan: &LogicalPlan) -> Result<()> {
    let (mut nodes, mut joins, mut widest) = (0_usize, 0_usize, 0_usize);
    let mut depth = Ok(());
    let visited = plan.apply_with_subqueries(|node| {
        nodes += 1;
        joins += usize::from(matches!(node, LogicalPlan::Join(_)));
        widest = widest.max(node.schema().fields().len());
        if depth.is_ok() {
            depth = node.schema().fields().iter().try_for_each(|field| check_depth(field.data_type()));
        }
        Ok(if nodes > PLAN_NODES_MAX { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    debug_assert!(visited.is_ok(), "a visit that only counts does not fail");
    if nodes > PLAN_NODES_MAX {
        return Err(Error::new(Code::SqlLimit, format!("the plan of a query has more than {PLAN_NODES_MAX} nodes"))
            .hint("WITH queries and views are planned each time they are read: write them into a log topic"));
    }
    depth?;
    if joins > JOINS_MAX {
        return Err(Error::new(Code::SqlLimit, format!("a query has {joins} joins, more than {JOINS_MAX}"))
            .hint("split it into several scripts, joined by log topics"));
    }
    if widest > COLUMNS_MAX {
        return Err(Error::new(Code::SqlLimit, format!("a query has {widest} columns, more than {COLUMNS_MAX}")));
    }
    Ok(())
}

/// Lowers queries together and sorts the graphs with what they insert.
fn lower(
    queries: &[Query],
    settings: &JobSettings,
    connectors: &dyn ConnectorCatalog,
) -> Result<(Vec<PlannedJob>, Vec<String>)> {
    let plans: Vec<&LogicalPlan> = queries.iter().map(|query| &query.plan).collect();
    let mut lowering = Lowering::new(&plans, settings, connectors)?;
    let mut sinks: Vec<(OperatorId, PlannedInsert)> = Vec::new();
    for query in queries {
        let target = SinkTarget {
            table: &query.table,
            columns: query.columns.clone(),
            constants: query.constants.clone(),
            places: query.places.clone(),
            overwrite: query.overwrite,
            any_schema: query.any_schema,
        };
        let id = lowering.insert(&query.plan, &target).map_err(|error| error.or_at(|| query.place.clone()))?;
        let insert = PlannedInsert {
            table: query.table.name.clone(),
            text: query.text.clone(),
            logical: query.plan.display_indent().to_string(),
        };
        sinks.push((id, insert));
    }
    let (graphs, warnings) = lowering.finish();
    let holds = |graph: &JobGraph, id: OperatorId| graph.operator(id).is_some();
    let jobs = graphs.into_iter().map(|graph| {
        let inserts = sinks.iter().filter(|(id, _)| holds(&graph, *id)).map(|(_, insert)| insert.clone()).collect();
        PlannedJob { graph, inserts }
    });
    Ok((jobs.collect(), warnings))
}
