//! What SHOW, DESCRIBE and a plain SET print.

use std::collections::BTreeMap;

use arrow::datatypes::Schema;

use crate::PlanOptions;
use crate::catalog::{BoundColumnKind, BoundTable, Catalog, Entry};
use crate::expr::sql_text;
use crate::functions;
use crate::types::sql_name;

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

pub(super) fn create_table(table: &BoundTable) -> String {
    let columns = describe_table(table).lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join(",\n");
    let options: Vec<String> =
        table.descriptor.options.iter().map(|(key, value)| format!("  '{key}' = '{value}'")).collect();
    format!("CREATE TABLE `{}` (\n{columns}\n) WITH (\n{}\n)", table.descriptor.name, options.join(",\n"))
}

fn column_line(name: &str, data_type: &str, nullable: bool, extra: &str) -> String {
    let not_null = if nullable { "" } else { " NOT NULL" };
    format!("{name} {data_type}{not_null} {extra}").trim_end().to_owned()
}

fn lines(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join("\n")
}
