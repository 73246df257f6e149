//! `print`: rows on the terminal, after their epoch is claimed, at least once.
//!
//! The text of an epoch rides in its handle, and so in the manifest: a process that dies between claim
//! and commit prints it when it comes back. Text beyond [`INLINE_BYTES_MAX`] waits in a hidden file of the
//! working folder instead. A terminal cannot tell what it has shown, so a replay by another process prints
//! the last epoch again; within one process it does not.

mod sink;
#[cfg(test)]
mod tests;
mod text;

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use qanat_proto::changelog::{AcceptedChangelog, SourceChangelog};
use qanat_proto::connector::{
    ConnectorDescriptor, Delivery, OptionKind, OptionSpec, Role, SinkRouting, TableDescriptor, TableTraits,
};
use qanat_proto::error::{Code, Error, Place, Result};
use qanat_proto::graph::SinkNode;

use crate::contract::{Context, Sink};
use crate::options::Options;
use crate::registry::Connector;

pub use sink::INLINE_BYTES_MAX;
pub use text::write_rows;

/// `sink.parallelism`, for sinks that have no other option.
pub(crate) const PARALLELISM: &[OptionSpec] = &[OptionSpec {
    key: "sink.parallelism",
    kind: OptionKind::Integer { min: 1, max: 256 },
    default: None,
    required: false,
    doc: "Subtasks that write, at most. Without it, as many as the job has.",
}];

const OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        key: "print-identifier",
        kind: OptionKind::Text,
        default: None,
        required: false,
        doc: "Text before each row, followed by `> `.",
    },
    OptionSpec {
        key: "standard-error",
        kind: OptionKind::Boolean,
        default: Some("false"),
        required: false,
        doc: "Print to standard error instead of standard output.",
    },
    PARALLELISM[0],
];

/// Where `print` writes. The process sets it once if its terminal needs care (a progress bar, `-o json`).
static OUTPUT: Mutex<Option<Box<dyn Write + Send>>> = Mutex::new(None);

/// Sends what `print` tables print to `output` instead of standard output and standard error.
pub fn set_output(output: Box<dyn Write + Send>) {
    *OUTPUT.lock().unwrap_or_else(PoisonError::into_inner) = Some(output);
}

/// Set once a write found that nobody reads any more (`qanat run … | head`).
static IS_CLOSED: AtomicBool = AtomicBool::new(false);

/// Whether what is printed is seen by nobody.
pub fn is_closed() -> bool {
    IS_CLOSED.load(Ordering::Acquire)
}

/// The default place of one table's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Output,
    Error,
}

pub(crate) fn show(stream: Stream, text: &[u8]) -> io::Result<()> {
    let mut output = OUTPUT.lock().unwrap_or_else(PoisonError::into_inner);
    let write = |to: &mut dyn Write| to.write_all(text).and_then(|()| to.flush());
    match (output.as_mut(), stream) {
        (Some(output), _) => write(output.as_mut()),
        (None, Stream::Output) => write(&mut io::stdout().lock()),
        (None, Stream::Error) => write(&mut io::stderr().lock()),
    }
}

/// The connector's line in the registry.
pub struct Print;

impl Connector for Print {
    fn descriptor(&self) -> ConnectorDescriptor {
        ConnectorDescriptor {
            name: "print",
            aliases: &[],
            doc: "Prints rows to the terminal after each epoch: at least once.",
            source: false,
            sink: true,
            lookup: false,
            formats: &[],
            options: OPTIONS,
        }
    }

    fn check(&self, table: &TableDescriptor, _role: Role) -> Result<TableTraits> {
        Options::check(table, &[OPTIONS])?;
        Ok(TableTraits {
            bounded: false,
            replayable: false,
            delivery: Delivery::AtLeastOnce,
            routing: SinkRouting::Any,
            changelog: AcceptedChangelog::Retract,
            gives: SourceChangelog::Append,
        })
    }

    fn sink(&self, context: &Context, node: &SinkNode, _rows: SchemaRef) -> Result<Arc<dyn Sink>> {
        let table = &node.table;
        let options = Options::check(table, &[OPTIONS])?;
        if node.overwrite {
            return Err(Error::new(
                Code::BadRole,
                "INSERT OVERWRITE into a `print` table: what is printed stays printed",
            )
            .at(Place::Named(table.name.clone())));
        }
        let stream = if options.boolean("standard-error") == Some(true) { Stream::Error } else { Stream::Output };
        let prefix = options.text("print-identifier").map(|text| format!("{text}> ")).unwrap_or_default();
        Ok(Arc::new(sink::PrintSink::new(
            context.env.clone(),
            &context.base,
            &table.name,
            Arc::clone(&table.physical),
            prefix,
            stream,
        )))
    }
}
