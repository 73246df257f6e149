//! `blackhole`: rows are dropped on purpose. For measuring everything before a sink.
//!
//! It stages nothing, so it has no handles; the rows it took stand in the operator's counts.

use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use qanat_proto::changelog::{AcceptedChangelog, SourceChangelog};
use qanat_proto::connector::{ConnectorDescriptor, Delivery, Role, SinkRouting, TableDescriptor, TableTraits};
use qanat_proto::control::CommitPermit;
use qanat_proto::error::Result;
use qanat_proto::graph::SinkNode;
use qanat_proto::ids::{Epoch, JobId, SubtaskId, Token};
use qanat_proto::manifest::PreparedHandle;
use qanat_storage::env::Env;

use crate::contract::{CommitScope, Context, MadeVisible, Sink, SinkWriter, Withdrawable};
use crate::encode::conform::refuse_nulls;
use crate::options::Options;
use crate::registry::Connector;

/// The connector's line in the registry.
pub struct Blackhole;

impl Connector for Blackhole {
    fn descriptor(&self) -> ConnectorDescriptor {
        ConnectorDescriptor {
            name: "blackhole",
            aliases: &[],
            doc: "Takes rows and drops them.",
            source: false,
            sink: true,
            lookup: false,
            formats: &[],
            options: crate::print::PARALLELISM,
        }
    }

    fn check(&self, table: &TableDescriptor, _role: Role) -> Result<TableTraits> {
        Options::check(table, &[crate::print::PARALLELISM])?;
        Ok(TableTraits {
            bounded: false,
            replayable: false,
            delivery: Delivery::None,
            routing: SinkRouting::Any,
            changelog: AcceptedChangelog::Retract,
            gives: SourceChangelog::Append,
        })
    }

    fn sink(&self, _context: &Context, node: &SinkNode, _rows: SchemaRef) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(BlackholeSink { table: node.table.name.clone(), columns: Arc::clone(&node.table.physical) }))
    }

    /// It has kept nothing.
    fn withdrawable(&self, _: &Env, _: &Path, _: &SinkNode, _: MadeVisible) -> Result<Withdrawable> {
        Ok(Withdrawable::default())
    }
}

#[derive(Clone)]
struct BlackholeSink {
    table: String,
    columns: SchemaRef,
}

impl Sink for BlackholeSink {
    fn writer(&self, _subtask: SubtaskId, _token: Token) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(self.clone()))
    }

    fn commit(&self, _operator: CommitScope, _permit: &CommitPermit, _handles: &[PreparedHandle]) -> Result<()> {
        Ok(())
    }

    fn abort_lower(&self, _operator: CommitScope, _token: Token, _keep: &[PreparedHandle]) -> Result<()> {
        Ok(())
    }

    fn newest_commit(&self, _operator: CommitScope, _job: JobId) -> Result<Option<Epoch>> {
        Ok(None)
    }
}

impl SinkWriter for BlackholeSink {
    fn write(&mut self, _epoch: Epoch, rows: &RecordBatch) -> Result<()> {
        refuse_nulls(&self.table, &self.columns, rows.columns())
    }

    fn prepare(&mut self, _epoch: Epoch) -> Result<Vec<PreparedHandle>> {
        Ok(Vec::new())
    }
}
