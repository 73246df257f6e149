//! What DataFusion's SQL planner asks us: tables, views, functions, types.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use datafusion_common::config::ConfigOptions;
use datafusion_common::{DFSchema, DataFusionError, Result, TableReference};
use datafusion_expr::planner::{ContextProvider, ExprPlanner, RelationPlanner, TypePlanner};
use datafusion_expr::{AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, WindowUDF};
use datafusion_sql::planner::{NullOrdering, ParserOptions, PlannerContext, SqlToRel};
use datafusion_sql::sqlparser::ast;
use qanat_proto::connector::ConnectorCatalog;
use qanat_proto::error::{Code, Error};
use qanat_proto::limits::{SQL_DEPTH_MAX, VIEWS_MAX};

use super::failure::{carry, from_datafusion};
use super::relations::Relations;
use super::table::StreamTable;
use super::view::View;
use crate::catalog::{Catalog, Entry};
use crate::functions;
use crate::rules::casts;
use crate::rules::common_types::CommonTypes;
use crate::rules::json_operators::JsonOperators;
use crate::rules::names::{name_apart, spell_out_all};
use crate::types::resolve_type;

/// The planner's surroundings while one statement is planned.
pub(crate) struct Context<'c> {
    catalog: &'c Catalog,
    connectors: &'c dyn ConnectorCatalog,
    options: ConfigOptions,
    expr_planners: Vec<Arc<dyn ExprPlanner>>,
    relation_planners: Vec<Arc<dyn RelationPlanner>>,
    types: Arc<dyn TypePlanner>,
    /// Views that are being planned, each read by the one before.
    view_depth: Cell<usize>,
    /// Views planned so far.
    views: Cell<usize>,
}

impl<'c> Context<'c> {
    pub(crate) fn new(catalog: &'c Catalog, connectors: &'c dyn ConnectorCatalog) -> Self {
        let mut options = ConfigOptions::default();
        options.optimizer.max_passes = 3;
        options.optimizer.skip_failed_rules = false;
        // A value is joined with the rows around it, and these change with it.
        options.optimizer.enable_physical_uncorrelated_scalar_subquery = false;
        options.execution.time_zone = Some("+00:00".to_owned());
        let mut expr_planners: Vec<Arc<dyn ExprPlanner>> = vec![Arc::new(JsonOperators), Arc::new(CommonTypes)];
        expr_planners.extend(functions::registry().planners().iter().cloned());
        Self {
            catalog,
            connectors,
            options,
            expr_planners,
            relation_planners: vec![Arc::new(Relations)],
            types: Arc::new(Types),
            view_depth: Cell::new(0),
            views: Cell::new(0),
        }
    }

    fn sql(&self) -> SqlToRel<'_, Self> {
        let options = ParserOptions::default()
            .with_parse_float_as_decimal(true)
            .with_enable_ident_normalization(false)
            .with_map_string_types_to_utf8view(false)
            .with_collect_spans(true)
            // NULL is the smallest value: first in ascending, last in descending order.
            .with_default_null_ordering(NullOrdering::NullsMin);
        SqlToRel::new_with_options(self, options)
    }

    /// The logical plan of a query, before any rule.
    ///
    /// # Errors
    /// E0103, E0104, E0105, E0106 and others, placed where the planner knows the place.
    pub(crate) fn query(&self, query: &ast::Query) -> qanat_proto::Result<LogicalPlan> {
        let mut query = Box::new(query.clone());
        name_apart(&mut query);
        self.sql().sql_statement_to_plan(ast::Statement::Query(query)).map_err(|e| from_datafusion(&e))
    }

    /// The names that the wildcards of a SELECT stand for; none where planning it will fail anyway.
    pub(crate) fn wildcards(&self, select: &ast::Select, around: &ast::Query) -> Vec<String> {
        let is_wildcard = |item: &&ast::SelectItem| {
            matches!(item, ast::SelectItem::Wildcard(_) | ast::SelectItem::QualifiedWildcard(..))
        };
        let projection: Vec<_> = select.projection.iter().filter(is_wildcard).cloned().collect();
        if projection.is_empty() || projection.len() == select.projection.len() {
            return Vec::new();
        }
        let only = ast::Select {
            projection,
            group_by: ast::GroupByExpr::Expressions(Vec::new(), Vec::new()),
            having: None,
            selection: None,
            ..select.clone()
        };
        let query = ast::Query {
            body: Box::new(ast::SetExpr::Select(Box::new(only))),
            order_by: None,
            limit_clause: None,
            ..around.clone()
        };
        let plan = self.query(&query);
        plan.map_or_else(|_| Vec::new(), |plan| plan.schema().fields().iter().map(|f| f.name().clone()).collect())
    }

    /// An expression over columns of `schema`, typed.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub(crate) fn expression(&self, expr: &ast::Expr, schema: &SchemaRef) -> qanat_proto::Result<Expr> {
        let df_schema = DFSchema::try_from(Arc::clone(schema)).map_err(|e| from_datafusion(&e))?;
        let mut expr = expr.clone();
        spell_out_all(&mut expr);
        let expr =
            self.sql().sql_to_expr(expr, &df_schema, &mut PlannerContext::new()).map_err(|e| from_datafusion(&e))?;
        super::optimize::typed_expression(expr, &Arc::new(df_schema)).map_err(|e| from_datafusion(&e))
    }

    pub(crate) fn config(&self) -> &ConfigOptions {
        &self.options
    }
}

impl ContextProvider for Context<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        let parts = [name.catalog(), name.schema(), Some(name.table())];
        let idents = parts.into_iter().flatten().map(|part| ast::Ident::with_quote('`', part)).collect::<Vec<_>>();
        match self.catalog.resolve(&ast::ObjectName::from(idents)).map_err(carry)? {
            Entry::Table(table) => {
                let source = StreamTable::try_new(Arc::clone(table), self.connectors).map_err(carry)?;
                Ok(Arc::new(source))
            }
            Entry::View(view) => {
                let depth = self.view_depth.get();
                if depth >= SQL_DEPTH_MAX {
                    let message = format!("view `{}` is read through more than {SQL_DEPTH_MAX} other views", view.name);
                    let error = Error::new(Code::SqlLimit, message)
                        .hint("write what a view in the middle gives into a log topic, and read that");
                    return Err(carry(error.at(view.place.clone())));
                }
                let views = self.views.get() + 1;
                if views > VIEWS_MAX {
                    let message = format!("the views that this statement reads, read more than {VIEWS_MAX} views");
                    return Err(carry(
                        Error::new(Code::SqlLimit, message)
                            .at(view.place.clone())
                            .hint("write what is read again and again into a log topic, and read that"),
                    ));
                }
                self.views.set(views);
                self.view_depth.set(depth + 1);
                let plan = self.query(&view.query);
                self.view_depth.set(depth);
                Ok(Arc::new(View::try_new(plan.map_err(carry)?, view)?))
            }
        }
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.expr_planners
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.relation_planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::clone(&self.types))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        if name == casts::KEEP {
            return Some(casts::keep());
        }
        functions::registry().scalar(self.catalog.function(&name.to_lowercase()).unwrap_or(name))
    }

    fn get_higher_order_meta(&self, _: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        functions::registry().aggregate(name)
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        functions::registry().window(name)
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        functions::registry().scalar_names()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        functions::registry().aggregate_names()
    }

    fn udwf_names(&self) -> Vec<String> {
        functions::registry().window_names()
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Context")
    }
}

/// SQL types by our own table.
#[derive(Debug)]
struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> Result<Option<FieldRef>> {
        let data_type = resolve_type(sql_type).map_err(|e| DataFusionError::External(Box::new(e)))?;
        Ok(Some(Arc::new(Field::new("", data_type, true))))
    }
}
