//! Scans of tables whose records are changes: a source of records, and behind it the rows that they come to.

use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_expr::logical_plan::TableScan;
use datafusion_expr::{Expr, lit};
use qanat_proto::changelog::{AFTER, BEFORE, Changelog, PAYLOAD, SourceChangelog, envelope, with_kinds};
use qanat_proto::connector::{MetadataKind, TableDescriptor};
use qanat_proto::error::{Code, Error, Place, Result};
use qanat_proto::graph::{ChangesNode, LatestRowsNode, OperatorKind, SourceNode};
use qanat_proto::ids::OperatorId;

use super::Lowering;
use super::graph::Port;
use super::relation::{Relation, column, internal};
use super::source::{Layout, MAX_DRIFT, scan_columns};
use crate::functions;
use crate::plan::table::StreamTable;

impl Lowering<'_> {
    /// The rows of a table whose records are changes in Debezium's form.
    pub(super) fn scan_changes(&mut self, bound: &StreamTable, is_wrapped: bool, scan: &TableScan) -> Result<Relation> {
        let table = &bound.table.descriptor;
        if let Some(text) = table.option(MAX_DRIFT) {
            return Err(Error::new(Code::BadOption, format!("`{MAX_DRIFT}` = `{text}` for a table of changes"))
                .at(Place::Named(table.name.clone()))
                .hint("changes are read in their order: no part of them waits for another"));
        }
        let layout = self.layout(bound)?;
        no_metadata(bound, &layout, &[])?;
        let (rows, partitions) = columns_of(table, &layout);
        let records: Vec<FieldRef> =
            envelope(&rows.clone().into(), is_wrapped).into_iter().chain(partitions.iter().cloned()).collect();
        let metadata = layout.schema.fields().iter().skip(layout.physical.len()).cloned();
        let read: SchemaRef =
            Arc::new(Schema::new(records.iter().cloned().chain(metadata.clone()).collect::<Vec<_>>()));
        let node = SourceNode {
            table: TableDescriptor { physical: Arc::new(Schema::new(records.clone())), ..table.clone() },
            projection: (0..records.len()).collect(),
            unread: Vec::new(),
            metadata: layout.metadata.clone(),
            pushed_filter: None,
            watermark: self.watermark(bound, &read, |expr| newest(&expr, &rows, is_wrapped))?,
            bounded: bound.bounded,
            replayable: bound.replayable,
            gives: SourceChangelog::Envelope { is_wrapped },
        };
        let name = format!("Source({})", table.name);
        let source = self.graph.add(name, OperatorKind::Source(node), read, Vec::new())?;
        let given = rows.into_iter().chain(partitions).chain(metadata).collect::<Vec<_>>();
        let base = with_kinds(&Schema::new(given));
        let kind = OperatorKind::Changes(ChangesNode { is_wrapped });
        let id = self.graph.add("Changes".to_owned(), kind, Arc::clone(&base), vec![Port::forward(&[source])])?;
        let columns = scan_columns(bound, scan)?;
        Ok(Relation::of(id, base, columns))
    }
}

impl Lowering<'_> {
    /// Rows of a source that tells what its keys have become: with what they were, or all as they come if these are read for
    /// versions.
    pub(super) fn upserts(&mut self, source: OperatorId, bound: &StreamTable, layout: &Layout) -> Result<OperatorId> {
        let table = &bound.table.descriptor;
        let key = table.primary_key.iter().filter_map(|name| layout.schema.index_of(name).ok()).collect::<Vec<_>>();
        self.graph.set_changelog(source, Changelog::Upsert { key: key.clone() });
        if self.reads_versions {
            return Ok(source);
        }
        let kind = OperatorKind::LatestRows(LatestRowsNode { key: key.clone() });
        let name = format!("LatestRows({})", table.name);
        self.graph.add(name, kind, Arc::clone(&layout.schema), vec![Port::hash(&[source], key)])
    }
}

/// A row is taken back as it was given: what belongs to the record that tells of it would be another's.
///
/// # Errors
/// E0102 for metadata columns that are read, but for those that all records of a row share.
pub(super) fn no_metadata(bound: &StreamTable, layout: &Layout, shared: &[MetadataKind]) -> Result<()> {
    let table = &bound.table.descriptor;
    let read = layout.metadata.iter().filter_map(|index| table.metadata.get(*index));
    let Some(column) = read.into_iter().find(|column| !shared.contains(&column.kind)) else { return Ok(()) };
    let message =
        format!("`{}` of `{}` belongs to a record, and rows of this table are taken back", column.name, table.name);
    Err(Error::new(Code::SqlUnsupported, message)
        .at(Place::Named(table.name.clone()))
        .hint("leave the metadata column out of the query"))
}

/// The columns that are read: those in the records, of which there is one at least, and those in the names of folders.
fn columns_of(table: &TableDescriptor, layout: &Layout) -> (Vec<FieldRef>, Vec<FieldRef>) {
    let fields = layout.schema.fields().iter().take(layout.physical.len()).cloned();
    let is_partition = |field: &FieldRef| table.partitioned_by.contains(field.name());
    let (partitions, mut rows): (Vec<FieldRef>, Vec<FieldRef>) = fields.partition(is_partition);
    if rows.is_empty() {
        rows.extend(table.physical.fields().iter().find(|field| !is_partition(field)).cloned());
    }
    (rows, partitions)
}

/// An expression over the columns of a row as one over its record: the row as it is, or as it was last.
fn newest(expr: &Expr, rows: &[FieldRef], is_wrapped: bool) -> Result<Expr> {
    let function = |name: &str| {
        functions::registry().scalar(name).ok_or_else(|| Error::internal(format!("there is no function `{name}`")))
    };
    let (get_field, coalesce) = (function("get_field")?, function("coalesce")?);
    let field = |of: Expr, name: &str| get_field.call(vec![of, lit(name)]);
    let row = |name: &str| if is_wrapped { field(column(PAYLOAD), name) } else { column(name) };
    let newest = |name: &str| coalesce.call(vec![field(row(AFTER), name), field(row(BEFORE), name)]);
    expr.clone()
        .transform_up(|e| match &e {
            Expr::Column(c) if rows.iter().any(|row| *row.name() == c.name) => Ok(Transformed::yes(newest(&c.name))),
            _ => Ok(Transformed::no(e)),
        })
        .map(|t| t.data)
        .map_err(|e| internal(&e))
}
