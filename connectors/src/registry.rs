//! The connectors there are, one line each, and the two doors to them: [`Catalog`] for the planner
//! (no IO) and [`Registry`] for the process that opens tables.

use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use qanat_proto::connector::{
    ConnectorCatalog, ConnectorDescriptor, FormatDescriptor, Role, TableDescriptor, TableTraits,
};
use qanat_proto::error::{Code, Error, Place, Result, nearest};
use qanat_proto::graph::SinkNode;
use qanat_storage::env::Env;

use crate::contract::{Context, MadeVisible, Opener, ReadRequest, Sink, Source, Withdrawable};

/// What a connector's folder offers to the registry.
pub trait Connector: Sync {
    fn descriptor(&self) -> ConnectorDescriptor;

    /// Checks every option and column for a role, with no IO. The role is one the descriptor has.
    fn check(&self, table: &TableDescriptor, role: Role) -> Result<TableTraits>;

    /// Whether its source looks at [`ReadRequest::filter`].
    fn uses_filters(&self, table: &TableDescriptor) -> bool {
        let _ = table;
        false
    }

    fn source(&self, context: &Context, table: &TableDescriptor, request: ReadRequest) -> Result<Arc<dyn Source>> {
        let _ = (context, request);
        Err(wrong_role(table, Role::Source))
    }

    fn sink(&self, context: &Context, node: &SinkNode, rows: SchemaRef) -> Result<Arc<dyn Sink>> {
        let _ = (context, rows);
        Err(wrong_role(&node.table, Role::Sink))
    }

    /// What its sink would take back, found out by reading alone. `base` is what relative paths are resolved against.
    fn withdrawable(&self, env: &Env, base: &Path, node: &SinkNode, rows: MadeVisible) -> Result<Withdrawable> {
        let _ = (env, base, rows);
        let keeps = format!("what `{}` has shown cannot be taken back", node.table.connector);
        Ok(Withdrawable { keeps: Some(keeps), ..Withdrawable::default() })
    }
}

/// One line per connector.
static CONNECTORS: &[&dyn Connector] = &[
    &crate::blackhole::Blackhole,
    &crate::datagen::Datagen,
    &crate::filesystem::Filesystem,
    &crate::log::Log,
    &crate::nexmark::Nexmark,
    &crate::print::Print,
    &crate::stdin::Stdin,
];

/// Connectors that no script can name.
static HIDDEN: &[&dyn Connector] = &[&crate::values::Values];

/// The connectors as the planner sees them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Catalog;

impl Catalog {
    /// What a sink would take back of what it has made visible (P10). Reads alone; `base` is what relative paths are
    /// resolved against.
    ///
    /// # Errors
    /// E0301 for a damaged record of commits; the disk's.
    pub fn withdrawable(self, env: &Env, base: &Path, node: &SinkNode, rows: MadeVisible) -> Result<Withdrawable> {
        find(&node.table, Role::Sink)?.withdrawable(env, base, node, rows)
    }
}

impl ConnectorCatalog for Catalog {
    fn connectors(&self) -> Vec<ConnectorDescriptor> {
        CONNECTORS.iter().map(|c| c.descriptor()).collect()
    }

    fn formats(&self) -> Vec<FormatDescriptor> {
        crate::format::FORMATS.to_vec()
    }

    fn check(&self, table: &TableDescriptor, role: Role) -> Result<TableTraits> {
        find(table, role)?.check(table, role)
    }

    fn uses_filters(&self, table: &TableDescriptor) -> bool {
        find(table, Role::Source).is_ok_and(|connector| connector.uses_filters(table))
    }
}

/// Opens tables within one process.
#[derive(Clone)]
pub struct Registry {
    context: Context,
}

impl Registry {
    pub fn new(context: Context) -> Self {
        Self { context }
    }
}

impl ConnectorCatalog for Registry {
    fn connectors(&self) -> Vec<ConnectorDescriptor> {
        Catalog.connectors()
    }

    fn formats(&self) -> Vec<FormatDescriptor> {
        Catalog.formats()
    }

    fn check(&self, table: &TableDescriptor, role: Role) -> Result<TableTraits> {
        Catalog.check(table, role)
    }

    fn uses_filters(&self, table: &TableDescriptor) -> bool {
        Catalog.uses_filters(table)
    }
}

impl Opener for Registry {
    fn source(&self, table: &TableDescriptor, request: ReadRequest) -> Result<Arc<dyn Source>> {
        find(table, Role::Source)?.source(&self.context, table, request)
    }

    fn sink(&self, node: &SinkNode, rows: SchemaRef) -> Result<Arc<dyn Sink>> {
        find(&node.table, Role::Sink)?.sink(&self.context, node, rows)
    }
}

/// The connector of a table, if it has the role.
fn find(table: &TableDescriptor, role: Role) -> Result<&'static dyn Connector> {
    let named = |d: &ConnectorDescriptor| d.name == table.connector || d.aliases.contains(&table.connector.as_str());
    let Some(connector) = CONNECTORS.iter().chain(HIDDEN).copied().find(|c| named(&c.descriptor())) else {
        let descriptors: Vec<_> = CONNECTORS.iter().map(|c| c.descriptor()).collect();
        let names: Vec<&str> =
            descriptors.iter().flat_map(|d| std::iter::once(d.name).chain(d.aliases.iter().copied())).collect();
        let error = Error::new(Code::UnknownConnector, format!("no connector `{}`", table.connector))
            .at(Place::Named(table.name.clone()));
        return Err(match nearest(&table.connector, names.iter().copied()) {
            Some(name) => error.hint(format!("did you mean `{name}`?")),
            None => error.hint(format!("connectors are: {}", names.join(", "))),
        });
    };
    let descriptor = connector.descriptor();
    let has_role = match role {
        Role::Source => descriptor.source,
        Role::Sink => descriptor.sink,
        Role::Lookup => descriptor.lookup,
    };
    if has_role { Ok(connector) } else { Err(wrong_role(table, role)) }
}

/// The error for a role that a connector does not have.
pub fn wrong_role(table: &TableDescriptor, role: Role) -> Error {
    let (verb, what) = match role {
        Role::Source => ("read from", "a source"),
        Role::Sink => ("written to", "a sink"),
        Role::Lookup => ("looked up in", "a lookup table"),
    };
    let message = format!("table `{}` cannot be {verb}: connector `{}` is not {what}", table.name, table.connector);
    Error::new(Code::BadRole, message).at(Place::Named(table.name.clone()))
}
