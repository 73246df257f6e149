//! A bound table as DataFusion's planner sees it.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion_expr::{Expr, TableProviderFilterPushDown, TableSource};
use qanat_proto::changelog::SourceChangelog;
use qanat_proto::connector::{ConnectorCatalog, Role, TableTraits};
use qanat_proto::error::{Error, Result};

use crate::catalog::BoundTable;

#[derive(Clone, Debug)]
pub(crate) struct StreamTable {
    pub(crate) table: Arc<BoundTable>,
    /// Whether the read ends.
    pub(crate) bounded: bool,
    pub(crate) replayable: bool,
    pub(crate) gives: SourceChangelog,
    schema: SchemaRef,
}

impl StreamTable {
    /// # Errors
    /// E0205 and others if the table can neither be read nor looked up in.
    pub(crate) fn try_new(table: Arc<BoundTable>, connectors: &dyn ConnectorCatalog) -> Result<Self> {
        let traits = match table.traits(Role::Source, connectors) {
            Ok(traits) => traits,
            Err(error) => table.traits(Role::Lookup, connectors).map_err(|_| error)?,
        };
        let (schema, TableTraits { bounded, replayable, gives, .. }) = (table.schema(), traits);
        Ok(Self { table, bounded, replayable, gives, schema })
    }
}

impl TableSource for StreamTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Inexact: the plan keeps its filter, and the source may use it to skip rows early.
    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> datafusion_common::Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }
}

/// Our table behind a scan.
///
/// # Errors
/// E0503 if it is another's.
pub(crate) fn bound_table(source: &Arc<dyn TableSource>) -> Result<StreamTable> {
    source
        .downcast_ref::<StreamTable>()
        .cloned()
        .ok_or_else(|| Error::internal("a scan of a table that the catalog does not know"))
}
