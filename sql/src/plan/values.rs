//! `VALUES` and SELECT without FROM: the rows become a bounded table of the connector `values`, read,
//! looked up in and resumed like any other.
//!
//! Literals travel with the table. A column with another expression (`NOW()`) is a computed one.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use arrow::ipc::writer::StreamWriter;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use datafusion_common::tree_node::Transformed;
use datafusion_common::{Column, DFSchema, DataFusionError, ScalarValue};
use datafusion_expr::logical_plan::TableScanBuilder;
use datafusion_expr::{Case, Expr, LogicalPlan, Projection};
use datafusion_sql::sqlparser::ast::{Ident, ObjectName};
use qanat_proto::Place;
use qanat_proto::connector::{ConnectorCatalog, TableDescriptor, VALUES_CONNECTOR, VALUES_ROWS};
use qanat_proto::error::Result;
use xxhash_rust::xxh3::xxh3_64;

use super::failure::{carry, from_datafusion};
use super::table::StreamTable;
use crate::catalog::{BoundColumn, BoundColumnKind, BoundTable};
use crate::parse::CreateTable;

/// The column that numbers the rows.
const ROW_NUMBER: &str = "row_number";

/// Replaces lists of rows by scans.
///
/// # Errors
/// If the rows cannot be written down as a table.
pub(crate) fn to_tables(plan: LogicalPlan, connectors: &dyn ConnectorCatalog) -> Result<LogicalPlan> {
    let replaced = plan.transform_up_with_subqueries(|node| {
        let scan = match &node {
            LogicalPlan::Values(list) => scan(&list.schema, &list.values, list.values.len(), connectors)?,
            LogicalPlan::EmptyRelation(empty) => {
                scan(&empty.schema, &[], usize::from(empty.produce_one_row), connectors)?
            }
            _ => return Ok(Transformed::no(node)),
        };
        Ok(Transformed::yes(scan))
    });
    replaced.map(|plan| plan.data).map_err(|e| from_datafusion(&e))
}

/// `rows` may be empty where there are no columns.
fn scan(
    schema: &Arc<DFSchema>,
    rows: &[Vec<Expr>],
    count: usize,
    connectors: &dyn ConnectorCatalog,
) -> datafusion_common::Result<LogicalPlan> {
    // The number of the row: what a computed column chooses by, and what is there to be counted.
    let mut physical: Vec<FieldRef> = vec![Arc::new(Field::new(ROW_NUMBER, DataType::Int64, false))];
    let numbers = (0..count).map(|row| i64::try_from(row).unwrap_or(i64::MAX));
    let mut arrays: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(numbers))];
    let mut columns: Vec<BoundColumn> =
        physical.iter().map(|field| bound(field, BoundColumnKind::Physical(0))).collect();
    for (position, field) in schema.fields().iter().enumerate() {
        let cells: Vec<&Expr> = rows.iter().filter_map(|row| row.get(position)).map(unaliased).collect();
        let name = format!("column{}", position + 1);
        let field = Arc::new(Field::new(name, field.data_type().clone(), true));
        match literals(&cells, field.data_type())? {
            Some(array) => {
                columns.push(bound(&field, BoundColumnKind::Physical(physical.len())));
                physical.push(field);
                arrays.push(array);
            }
            None => columns.push(bound(&field, BoundColumnKind::Computed(computed(&cells)))),
        }
    }
    let physical = Arc::new(Schema::new(physical));
    let rows = encode(&RecordBatch::try_new(Arc::clone(&physical), arrays)?)?;
    let expressions = columns.iter().map(|column| match &column.kind {
        BoundColumnKind::Computed(expr) => expr.to_string(),
        BoundColumnKind::Physical(_) | BoundColumnKind::Metadata(_) => String::new(),
    });
    let identity = std::iter::once(rows.clone()).chain(expressions).collect::<Vec<_>>().join("\n");
    let name = format!("values_{:016x}", xxh3_64(identity.as_bytes()));
    let options = [("connector", VALUES_CONNECTOR.to_owned()), (VALUES_ROWS, rows)];
    let descriptor = TableDescriptor {
        name: name.clone(),
        connector: VALUES_CONNECTOR.to_owned(),
        options: options.map(|(key, value)| (key.to_owned(), value)).into(),
        physical,
        metadata: Vec::new(),
        primary_key: Vec::new(),
        partitioned_by: Vec::new(),
    };
    let names: Vec<String> = columns.iter().skip(1).map(|column| column.name().to_owned()).collect();
    let table = BoundTable { descriptor, columns, watermark: None, declaration: declaration(&name) };
    let source = StreamTable::try_new(Arc::new(table), connectors).map_err(carry)?;
    let chosen = (1..=names.len()).collect();
    let scan = TableScanBuilder::new(name.as_str(), Arc::new(source)).with_projection(Some(chosen)).build()?;
    let exprs = names.iter().zip(schema.iter()).map(|(column, (qualifier, field))| {
        Expr::Column(Column::new(Some(name.as_str()), column)).alias_qualified(qualifier.cloned(), field.name())
    });
    let projection =
        Projection::try_new_with_schema(exprs.collect(), Arc::new(LogicalPlan::TableScan(scan)), Arc::clone(schema))?;
    Ok(LogicalPlan::Projection(projection))
}

fn bound(field: &FieldRef, kind: BoundColumnKind) -> BoundColumn {
    BoundColumn { field: Arc::clone(field), kind, place: Place::Sql { line: 1, column: 1 } }
}

/// Rules keep the names of what they rewrite; a cell needs none.
fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

/// The column, if all its cells are literals.
fn literals(cells: &[&Expr], data_type: &DataType) -> datafusion_common::Result<Option<ArrayRef>> {
    let mut values = Vec::with_capacity(cells.len());
    for cell in cells {
        match cell {
            Expr::Literal(value, _) => values.push(value.clone()),
            _ => return Ok(None),
        }
    }
    if values.is_empty() {
        return Ok(Some(arrow::array::new_empty_array(data_type)));
    }
    let array = ScalarValue::iter_to_array(values)?;
    Ok(Some(cast(&array, data_type)?))
}

/// The cell of each row, by its number.
fn computed(cells: &[&Expr]) -> Expr {
    match cells {
        [first, rest @ ..] if rest.iter().all(|other| other == first) => (*first).clone(),
        _ => {
            let numbered = cells.iter().zip(0_i64..).map(|(cell, row)| {
                (Box::new(Expr::Literal(ScalarValue::Int64(Some(row)), None)), Box::new((*cell).clone()))
            });
            let number = Expr::Column(Column::new_unqualified(ROW_NUMBER));
            Expr::Case(Case::new(Some(Box::new(number)), numbered.collect(), None))
        }
    }
}

/// An Arrow IPC stream in base64.
fn encode(rows: &RecordBatch) -> datafusion_common::Result<String> {
    let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema())?;
    writer.write(rows)?;
    writer.finish()?;
    let bytes = writer.into_inner().map_err(|e| DataFusionError::Internal(e.to_string()))?;
    Ok(STANDARD.encode(bytes))
}

/// What a user would have declared.
fn declaration(name: &str) -> CreateTable {
    CreateTable {
        name: ObjectName::from(vec![Ident::new(name)]),
        if_not_exists: false,
        or_replace: false,
        temporary: true,
        columns: Vec::new(),
        watermark: None,
        primary_key: Vec::new(),
        partitioned_by: Vec::new(),
        options: Vec::new(),
        like: None,
        comment: None,
        place: Place::Sql { line: 1, column: 1 },
    }
}
