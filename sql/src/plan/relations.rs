//! Flink's tables in FROM: window table functions, `FOR SYSTEM_TIME AS OF` and `UNNEST`.

use std::sync::Arc;

use datafusion_common::{Column, DFSchema, Result, TableReference};
use datafusion_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion_expr::{ExprSchemable, Extension, LogicalPlan};
use datafusion_sql::sqlparser::ast::{self, ObjectName, Spanned, TableAlias, TableFactor, TableVersion, VisitMut};
use qanat_proto::error::{Code, Error, Place, nearest};
use qanat_proto::graph::WindowShape;

use super::expand::{LateralUnnest, element_fields};
use super::failure::carry;
use super::state_ttl::StateTtl;
use super::temporal::Temporal;
use super::window_table::{WINDOW_COLUMNS, WindowTable};
use crate::lower::placed;
use crate::parse::{WindowCall, WindowInput, WindowKind, place_of, state_ttl, window_factor};
use crate::rules::{literals, names};

#[derive(Debug)]
pub(crate) struct Relations;

impl RelationPlanner for Relations {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        if let Some((call, alias)) = window_factor(&relation).map_err(carry)? {
            return planned(window(&call, context)?, alias);
        }
        if let Some((relation, table, ttl_ms)) = state_ttl(&relation) {
            let node = StateTtl { input: context.plan(relation.clone())?, table, ttl_ms };
            return planned(LogicalPlan::Extension(Extension { node: Arc::new(node) }), None);
        }
        match relation {
            TableFactor::Table { name, alias, version: Some(version), args: None, .. } => {
                planned(temporal(name, &version, context)?, alias)
            }
            TableFactor::UNNEST { alias, array_exprs, with_offset: false, with_ordinality, .. } => {
                unnest(alias, &array_exprs, with_ordinality, context)
            }
            TableFactor::Table { sample: Some(_), .. } => refuse("TABLESAMPLE", &relation),
            TableFactor::MatchRecognize { .. } => refuse("MATCH_RECOGNIZE", &relation),
            TableFactor::Pivot { .. } | TableFactor::Unpivot { .. } => refuse("PIVOT", &relation),
            TableFactor::JsonTable { .. } | TableFactor::OpenJsonTable { .. } => refuse("JSON_TABLE", &relation),
            TableFactor::Table { ref name, args: Some(_), .. } | TableFactor::Function { ref name, .. } => {
                Err(carry(unknown_table_function(name)))
            }
            TableFactor::TableFunction { expr: ast::Expr::Function(ref function), .. } => {
                Err(carry(unknown_table_function(&function.name)))
            }
            TableFactor::TableFunction { .. } => refuse("this table function", &relation),
            other => Ok(RelationPlanning::Original(Box::new(other))),
        }
    }
}

fn planned(plan: LogicalPlan, alias: Option<TableAlias>) -> Result<RelationPlanning> {
    Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
}

fn refuse(what: &str, relation: &TableFactor) -> Result<RelationPlanning> {
    let error = Error::new(Code::SqlUnsupported, format!("{what} is not supported yet"));
    Err(carry(placed(error, place_of(relation.span()))))
}

fn unknown_table_function(name: &ObjectName) -> Error {
    const KNOWN: [&str; 5] = ["TUMBLE", "HOP", "CUMULATE", "SESSION", "UNNEST"];
    if name.to_string().eq_ignore_ascii_case("TABLE") {
        let error =
            Error::new(Code::SqlUnsupported, "LATERAL TABLE(…) is not supported: table functions cannot be declared")
                .hint("`CROSS JOIN UNNEST(SPLIT(s, ',')) AS x (part)` makes rows of an array");
        return placed(error, place_of(name.span()));
    }
    let error = Error::new(Code::UnknownFunction, format!("no table function `{name}`"));
    let error = match nearest(&name.to_string().to_uppercase(), KNOWN) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint(format!("there are {}", KNOWN.join(", "))),
    };
    placed(error, place_of(name.span()))
}

fn named(name: ObjectName) -> TableFactor {
    TableFactor::Table {
        name,
        alias: None,
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    }
}

fn window(call: &WindowCall, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
    let input = match &call.input {
        WindowInput::Table(name) => context.plan(named(name.clone()))?,
        WindowInput::Query(query) => {
            context.plan(TableFactor::Derived { lateral: false, subquery: query.clone(), alias: None, sample: None })?
        }
    };
    let schema = Arc::clone(input.schema());
    if let Some(taken) = WINDOW_COLUMNS.iter().find(|name| schema.has_column_with_unqualified_name(name)) {
        let error =
            Error::new(Code::SqlDuplicate, format!("the table of this window function already has a column `{taken}`"))
                .hint("rename the columns of the earlier window in a view, and keep its `window_time AS rowtime`");
        return Err(carry(placed(error, call.place.clone())));
    }
    let mut column = |ident: &ast::Ident| -> Result<Column> {
        match context.sql_to_expr(ast::Expr::Identifier(ident.clone()), &schema)? {
            datafusion_expr::Expr::Column(column) if schema.has_column(&column) => Ok(column),
            _ => {
                let error = Error::new(Code::UnknownColumn, format!("no column `{}`", ident.value));
                let names = schema.fields().iter().map(|f| f.name().as_str());
                let error = match nearest(&ident.value, names) {
                    Some(near) => error.hint(format!("did you mean `{near}`?")),
                    None => error,
                };
                Err(carry(placed(error, place_of(ident.span))))
            }
        }
    };
    let time = column(&call.time_column)?;
    let partition_by = call.partition_by.iter().map(&mut column).collect::<Result<Vec<_>>>()?;
    let shape = shape_of(call).map_err(carry)?;
    let node = WindowTable::try_new(input, shape, time, partition_by)?;
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

fn shape_of(call: &WindowCall) -> qanat_proto::Result<WindowShape> {
    let offset = call.offset_ms;
    match (call.kind, call.intervals_ms.as_slice()) {
        (WindowKind::Tumble, [size]) => Ok(WindowShape::Tumble { size: *size, offset }),
        (WindowKind::Hop, [slide, size]) => Ok(WindowShape::Hop { size: *size, slide: *slide, offset }),
        (WindowKind::Cumulate, [step, max_size]) => {
            Ok(WindowShape::Cumulate { max_size: *max_size, step: *step, offset })
        }
        (WindowKind::Session, [gap]) => Ok(WindowShape::Session { gap: *gap }),
        _ => Err(Error::internal("a window function with other lengths than its kind has")),
    }
}

fn temporal(name: ObjectName, version: &TableVersion, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
    let place = place_of(name.span());
    let refused = |message: &str| {
        let error = Error::new(Code::SqlUnsupported, message.to_owned())
            .hint("write `JOIN t FOR SYSTEM_TIME AS OF s.proctime AS t ON …`");
        carry(placed(error, place.clone()))
    };
    let time = match version {
        TableVersion::ForSystemTimeAsOf(ast::Expr::Identifier(ident)) => vec![ident.value.clone()],
        TableVersion::ForSystemTimeAsOf(ast::Expr::CompoundIdentifier(parts)) => {
            parts.iter().map(|part| part.value.clone()).collect()
        }
        TableVersion::ForSystemTimeAsOf(ast::Expr::Function(function))
            if function.name.to_string().eq_ignore_ascii_case("proctime") =>
        {
            Vec::new()
        }
        TableVersion::ForSystemTimeAsOf(_) => {
            return Err(refused("FOR SYSTEM_TIME AS OF takes a time column of the stream"));
        }
        _ => return Err(refused("this way to name a table's version is not supported")),
    };
    let input = context.plan(named(name))?;
    let (line, column) = match &place {
        Some(Place::Sql { line, column }) => (*line, *column),
        _ => (1, 1),
    };
    Ok(LogicalPlan::Extension(Extension {
        node: Arc::new(Temporal { input, time, place: (line, column), is_event: false }),
    }))
}

/// The ways to read a name of several parts as fields of a column, the longest column first.
fn field_accesses(expr: &ast::Expr) -> Vec<ast::Expr> {
    let ast::Expr::CompoundIdentifier(parts) = expr else { return Vec::new() };
    let reading = |column: usize| {
        let (column, fields) = parts.split_at_checked(column)?;
        let root = match column {
            [name] => ast::Expr::Identifier(name.clone()),
            several => ast::Expr::CompoundIdentifier(several.to_vec()),
        };
        let access = |field: &ast::Ident| {
            ast::AccessExpr::Subscript(ast::Subscript::Index { index: crate::parse::text(&field.value) })
        };
        Some(ast::Expr::CompoundFieldAccess { root: Box::new(root), access_chain: fields.iter().map(access).collect() })
    };
    (1..parts.len()).rev().filter_map(reading).collect()
}

fn unnest(
    alias: Option<TableAlias>,
    exprs: &[ast::Expr],
    ordinality: bool,
    context: &mut dyn RelationPlannerContext,
) -> Result<RelationPlanning> {
    let [expr] = exprs else {
        let error = Error::new(Code::SqlUnsupported, "UNNEST of several arrays at once is not supported yet")
            .hint("write one CROSS JOIN UNNEST(…) for each");
        return Err(carry(error));
    };
    let place = place_of(expr.span());
    let nothing = DFSchema::empty();
    let mut expr = expr.clone();
    let _ = VisitMut::visit(&mut expr, &mut names::ArraysAsCalls);
    let expr = &expr;
    let array = context.sql_to_expr(expr.clone(), &nothing).or_else(|error| {
        // `c.payload.items` of a table on the left: DataFusion takes no more than a column from there.
        let mut readings = field_accesses(expr).into_iter();
        readings.find_map(|reading| context.sql_to_expr(reading, &nothing).ok()).ok_or(error)
    })?;
    let expr = literals::expression(array)?.data;
    let data_type = expr.get_type(&DFSchema::empty())?;
    let names: Vec<String> = alias.iter().flat_map(|a| &a.columns).map(|c| c.name.value.clone()).collect();
    let fields = element_fields(&data_type, ordinality, &names).map_err(|e| {
        carry(placed(
            Error::new(Code::TypeMismatch, e.strip_backtrace().trim_start_matches("Error during planning: ")),
            place,
        ))
    })?;
    let qualifier = alias.map(|a| TableReference::bare(a.name.value));
    let fields = fields.into_iter().map(|field| (qualifier.clone(), field)).collect();
    let schema = Arc::new(DFSchema::new_with_metadata(fields, std::collections::HashMap::new())?);
    let node = LateralUnnest { expr, ordinality, schema };
    planned(LogicalPlan::Extension(Extension { node: Arc::new(node) }), None)
}
