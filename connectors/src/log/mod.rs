//! `log`: a topic of the embedded log as a table, read and written.
//!
//! Rows are Arrow batches, so there is no format. A split of the source is a partition, its position an
//! offset; the sink stages rows aside and appends them as one atomic run per partition at commit (P11,
//! P12). The guide is `docs/guide/connectors/log.md`.

pub mod hold;
mod options;
mod sink;
mod source;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use qanat_proto::changelog::{AcceptedChangelog, SourceChangelog};
use qanat_proto::connector::{ConnectorDescriptor, Delivery, Role, SinkRouting, TableDescriptor, TableTraits};
use qanat_proto::error::{Code, Error, Place, Result};
use qanat_proto::graph::{JobGraph, Operator, OperatorKind, SinkNode};
use qanat_proto::names::Name;
use qanat_storage::env::Env;
use qanat_storage::log::TopicSpec;

use crate::contract::{Context, MadeVisible, ReadRequest, Sink, Source, Withdrawable};
use crate::registry::Connector;

pub use options::{LogOptions, OPTIONS, TopicChangelog};
pub use sink::{LogSink, Routing, commit_owned};

/// Topics that the tables of a graph are.
pub fn topics_of(graph: &JobGraph) -> impl Iterator<Item = Result<Name>> {
    let table = |operator: &Operator| match &operator.kind {
        OperatorKind::Source(node) => Some(node.table.clone()),
        OperatorKind::Sink(node) => Some(node.table.clone()),
        OperatorKind::LookupJoin(node) => Some(node.table.clone()),
        _ => None,
    };
    let tables = graph.operators.iter().filter_map(table).filter(|table| table.connector == "log");
    tables.map(|table| LogOptions::of_table(&table).map(|options| options.topic))
}

/// The connector's line in the registry.
pub struct Log;

impl Connector for Log {
    fn descriptor(&self) -> ConnectorDescriptor {
        ConnectorDescriptor {
            name: "log",
            aliases: &["topic"],
            doc: "A topic of the embedded log.",
            source: true,
            sink: true,
            lookup: true,
            formats: &[],
            options: OPTIONS,
        }
    }

    fn check(&self, table: &TableDescriptor, role: Role) -> Result<TableTraits> {
        let options = LogOptions::of_table(table)?;
        if role == Role::Lookup && !options.is_bounded {
            return Err(Error::new(
                Code::BadRole,
                format!("table `{}` never ends, so it cannot be looked up in", table.name),
            )
            .at(Place::Named(table.name.clone()))
            .hint("set `scan.bounded.mode` = `latest-offset`"));
        }
        Ok(TableTraits {
            bounded: options.is_bounded,
            replayable: true,
            delivery: Delivery::ExactlyOnce,
            routing: SinkRouting::Any,
            changelog: match options.changelog {
                None => AcceptedChangelog::Append,
                Some(TopicChangelog::Upsert) => AcceptedChangelog::Upsert,
                Some(TopicChangelog::Log) => AcceptedChangelog::Retract,
            },
            gives: match options.changelog {
                None => SourceChangelog::Append,
                Some(TopicChangelog::Upsert) => SourceChangelog::Upsert,
                Some(TopicChangelog::Log) => SourceChangelog::Retract,
            },
        })
    }

    fn source(&self, context: &Context, table: &TableDescriptor, request: ReadRequest) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(source::LogSource::open(context, table, request)?))
    }

    fn withdrawable(&self, _: &Env, _: &Path, _: &SinkNode, _: MadeVisible) -> Result<Withdrawable> {
        let keeps = Some("rows of a topic stay where they are".to_owned());
        Ok(Withdrawable { keeps, ..Withdrawable::default() })
    }

    fn sink(&self, context: &Context, node: &SinkNode, _rows: SchemaRef) -> Result<Arc<dyn Sink>> {
        let table = &node.table;
        let options = LogOptions::of_table(table)?;
        let place = || Place::Named(table.name.clone());
        if node.overwrite {
            return Err(Error::new(Code::BadRole, "INSERT OVERWRITE into a topic: what is appended stays")
                .at(place())
                .hint("insert into a new topic"));
        }
        let spec = TopicSpec::new(options.partitions.unwrap_or(1));
        let topic = context.topics.get_or_create(&options.topic, spec).map_err(|e| e.or_at(place))?;
        options.check_partitions(&topic).map_err(|e| e.at(place()))?;
        options.check_order(topic.partitions()).map_err(|e| e.at(place()))?;
        let routing = Routing::of(&options, table, topic.partitions())?;
        LogSink::open(
            context.topics.clone(),
            options.topic.clone(),
            options.columns(&table.physical),
            options.event_time_column,
            routing,
            qanat_proto::manifest::SinkChannel::Table,
            options.changelog.is_some(),
        )
        .map(|sink| Arc::new(sink) as Arc<dyn Sink>)
        .map_err(|e| e.or_at(place))
    }
}
