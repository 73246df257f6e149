//! `values`: the rows of a VALUES list, which travel in the table itself. Made by the planner alone:
//! no script can name it.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::compute::{concat_batches, take};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use qanat_proto::changelog::{AcceptedChangelog, SourceChangelog};
use qanat_proto::connector::{
    ConnectorDescriptor, Delivery, Role, SinkRouting, TableDescriptor, TableTraits, VALUES_CONNECTOR, VALUES_ROWS,
};
use qanat_proto::error::{Code, Error, Result};
use qanat_proto::ipc;

use crate::contract::{Context, ReadRequest, Source};
use crate::generator::{GeneratorSource, Plan, Rows};
use crate::registry::Connector;

/// The connector behind VALUES.
pub struct Values;

impl Connector for Values {
    fn descriptor(&self) -> ConnectorDescriptor {
        ConnectorDescriptor {
            name: VALUES_CONNECTOR,
            aliases: &[],
            doc: "Rows of a VALUES list.",
            source: true,
            sink: false,
            lookup: true,
            formats: &[],
            options: &[],
        }
    }

    fn check(&self, table: &TableDescriptor, _role: Role) -> Result<TableTraits> {
        decode(table)?;
        Ok(TableTraits {
            bounded: true,
            replayable: true,
            delivery: Delivery::ExactlyOnce,
            routing: SinkRouting::Any,
            changelog: AcceptedChangelog::Append,
            gives: SourceChangelog::Append,
        })
    }

    fn source(&self, context: &Context, table: &TableDescriptor, request: ReadRequest) -> Result<Arc<dyn Source>> {
        let rows = decode(table)?;
        let plan = Plan { splits: 1, limit: Some(rows.num_rows() as u64), rate: None, base_ms: Some(0) };
        let columns = request.projection.iter().filter_map(|index| rows.columns().get(*index).cloned());
        let rows = Arc::new(Listed { columns: columns.collect() });
        Ok(Arc::new(GeneratorSource::new(&context.env, VALUES_CONNECTOR, table, request, &plan, rows)))
    }
}

struct Listed {
    columns: Vec<ArrayRef>,
}

impl Rows for Listed {
    fn columns(&self, rows: &[u64], _base_ms: i64) -> Result<Vec<ArrayRef>> {
        let chosen = UInt64Array::from_iter_values(rows.iter().copied());
        let taken = self.columns.iter().map(|column| take(column, &chosen, None));
        taken.collect::<std::result::Result<_, _>>().map_err(|e| Error::internal(format!("take listed rows: {e}")))
    }
}

/// The rows of a table, in its schema.
fn decode(table: &TableDescriptor) -> Result<RecordBatch> {
    let bad = |e: &dyn std::fmt::Display| {
        Error::new(Code::UnknownVersion, format!("the rows of `{}` cannot be read: {e}", table.name))
    };
    let text = table.option(VALUES_ROWS).unwrap_or_default();
    let bytes = STANDARD.decode(text).map_err(|e| bad(&e))?;
    let batches = ipc::batches(&bytes).map_err(|e| bad(&e))?;
    concat_batches(&table.physical, &batches).map_err(|e| bad(&e))
}
