//! What SHOW, DESCRIBE and a plain SET print.

use std::collections::BTreeMap;
use std::fmt::Write;

use arrow::datatypes::Schema;
use datafusion_sql::sqlparser::ast::Ident;

use crate::PlanOptions;
use crate::catalog::{BoundColumn, BoundColumnKind, BoundTable, Catalog, Entry};
use crate::expr::sql_text;
use crate::functions;
use crate::parse::{ColumnDecl, ColumnKind};
use crate::types::{quoted, sql_name};

pub(super) fn settings(script: &BTreeMap<String, String>, options: &PlanOptions) -> String {
    let mut pairs = script.clone();
    pairs.extend(options.settings.clone());
    lines(pairs.iter().map(|(key, value)| format!("'{key}' = '{value}'")))
}

pub(super) fn tables(catalog: &Catalog, views_only: bool) -> String {
    let shown = catalog.entries().filter(|(_, entry)| !views_only || matches!(entry, Entry::View(_)));
    lines(shown.map(|(name, _)| name.to_owned()))
}

pub(super) fn functions() -> String {
    let registry = functions::registry();
    let mut names = registry.scalar_names();
    names.extend(registry.aggregate_names());
    // Names that begin so are ours alone.
    names.retain(|name| !name.starts_with("__"));
    names.sort();
    names.dedup();
    lines(names.into_iter())
}

pub(super) fn describe(schema: &Schema) -> String {
    lines(schema.fields().iter().map(|f| column_line(f.name(), &sql_name(f.data_type()), f.is_nullable(), "")))
}

pub(super) fn describe_table(table: &BoundTable) -> String {
    lines(table.columns.iter().map(|column| {
        let extra = match &column.kind {
            BoundColumnKind::Physical(_) => String::new(),
            BoundColumnKind::Metadata(index) => match table.descriptor.metadata.get(*index) {
                Some(meta) => format!("METADATA FROM '{}'", meta.kind.key()),
                None => String::new(),
            },
            BoundColumnKind::Computed(expr) => format!("AS {}", sql_text(expr)),
        };
        let watermark = match &table.watermark {
            Some(watermark) if watermark.column == column.name() => {
                format!("WATERMARK AS {}", sql_text(&watermark.expr))
            }
            _ => String::new(),
        };
        let extra = [extra, watermark].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ");
        column_line(column.name(), &sql_name(column.data_type()), column.field.is_nullable(), &extra)
    }))
}

/// A statement that declares the table again.
pub(super) fn create_table(table: &BoundTable) -> String {
    let declaration = &table.declaration;
    let mut lines: Vec<String> = declaration
        .columns
        .iter()
        .zip(&table.columns)
        .map(|(column, bound)| column_declaration(column, bound))
        .collect();
    if let Some(watermark) = &declaration.watermark {
        lines.push(format!("WATERMARK FOR {} AS {}", quoted(&watermark.column.value), watermark.expr));
    }
    if !declaration.primary_key.is_empty() {
        lines.push(format!("PRIMARY KEY ({}) NOT ENFORCED", names(&declaration.primary_key)));
    }
    let mut text = format!("CREATE TABLE {} (\n  {}\n)", quoted(&table.descriptor.name), lines.join(",\n  "));
    if let Some(comment) = &declaration.comment {
        let _ = write!(text, "\nCOMMENT {}", literal(comment));
    }
    if !declaration.partitioned_by.is_empty() {
        let _ = write!(text, "\nPARTITIONED BY ({})", names(&declaration.partitioned_by));
    }
    let options = table.descriptor.options.iter();
    let options: Vec<String> = options.map(|(key, value)| format!("  {} = {}", literal(key), literal(value))).collect();
    let _ = write!(text, "\nWITH (\n{}\n)", options.join(",\n"));
    text
}

fn column_declaration(column: &ColumnDecl, bound: &BoundColumn) -> String {
    let name = quoted(&column.name.value);
    let data_type = sql_name(bound.data_type());
    let mut text = match &column.kind {
        ColumnKind::Physical { nullable, .. } => {
            format!("{name} {data_type}{}", if *nullable { "" } else { " NOT NULL" })
        }
        ColumnKind::Computed { expr } => format!("{name} AS {expr}"),
        ColumnKind::Metadata { from, is_virtual, .. } => {
            let from = from.as_ref().map(|key| format!(" FROM {}", literal(key))).unwrap_or_default();
            format!("{name} {data_type} METADATA{from}{}", if *is_virtual { " VIRTUAL" } else { "" })
        }
    };
    if let Some(comment) = &column.comment {
        let _ = write!(text, " COMMENT {}", literal(comment));
    }
    text
}

fn names(idents: &[Ident]) -> String {
    idents.iter().map(|ident| quoted(&ident.value)).collect::<Vec<_>>().join(", ")
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn column_line(name: &str, data_type: &str, nullable: bool, extra: &str) -> String {
    let not_null = if nullable { "" } else { " NOT NULL" };
    format!("{name} {data_type}{not_null} {extra}").trim_end().to_owned()
}

fn lines(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join("\n")
}
