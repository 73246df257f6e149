//! A small catalog of connectors for planner tests: enough to tell sources, sinks and lookups apart.

use std::collections::BTreeMap;

use qanat_proto::changelog::{AcceptedChangelog, SourceChangelog};
use qanat_proto::connector::{
    ConnectorCatalog, ConnectorDescriptor, Delivery, FormatDescriptor, Role, SinkRouting, TableDescriptor, TableTraits,
    VALUES_CONNECTOR,
};
use qanat_proto::error::{Code, Error, Result};
use qanat_sql::{PlanOptions, PlannedScript, plan_script};

pub(crate) struct FakeConnectors;

const fn connector(name: &'static str, source: bool, sink: bool, lookup: bool) -> ConnectorDescriptor {
    ConnectorDescriptor { name, aliases: &[], doc: "", source, sink, lookup, formats: &["csv", "json"], options: &[] }
}

impl ConnectorCatalog for FakeConnectors {
    fn connectors(&self) -> Vec<ConnectorDescriptor> {
        vec![
            connector("filesystem", true, true, true),
            connector("nexmark", true, false, false),
            connector("log", true, true, false),
            connector("print", false, true, false),
            connector("blackhole", false, true, false),
        ]
    }

    fn formats(&self) -> Vec<FormatDescriptor> {
        Vec::new()
    }

    fn check(&self, table: &TableDescriptor, role: Role) -> Result<TableTraits> {
        let hidden = connector(VALUES_CONNECTOR, true, false, true);
        let known = self.connectors().into_iter().chain([hidden]).find(|c| c.name == table.connector);
        let has = known.is_some_and(|c| match role {
            Role::Source => c.source,
            Role::Sink => c.sink,
            Role::Lookup => c.lookup && table.option("source.monitor-interval").is_none(),
        });
        if !has {
            return Err(Error::new(
                Code::BadRole,
                format!("connector `{}` cannot be used as {role:?}", table.connector),
            ));
        }
        let bounded = ["filesystem", VALUES_CONNECTOR].contains(&table.connector.as_str())
            && table.option("source.monitor-interval").is_none();
        let delivery = if table.connector == "print" { Delivery::AtLeastOnce } else { Delivery::ExactlyOnce };
        let changelog = match (table.connector.as_str(), table.option("sink.changelog")) {
            ("print" | "blackhole", _) | (_, Some("log")) => AcceptedChangelog::Retract,
            (_, Some("table")) => AcceptedChangelog::Upsert,
            _ => AcceptedChangelog::Append,
        };
        let gives = match table.option("format") {
            Some("debezium-json") => SourceChangelog::Envelope { is_wrapped: false },
            _ => SourceChangelog::Append,
        };
        let routing = match changelog {
            AcceptedChangelog::Upsert => SinkRouting::ByKey,
            AcceptedChangelog::Append | AcceptedChangelog::Retract => SinkRouting::Any,
        };
        Ok(TableTraits { bounded, replayable: true, delivery, changelog, routing, gives })
    }
}

/// Tables of the airport data and of Nexmark.
pub(crate) const TABLES: &str = "
CREATE TABLE flights (
  carrier STRING, flight INT, tailnum STRING, origin STRING, dest STRING,
  dep_delay DOUBLE, arr_delay INT, distance INT, time_hour TIMESTAMP(3),
  proctime AS PROCTIME(),
  WATERMARK FOR time_hour AS time_hour - INTERVAL '24' HOUR
) WITH ('connector' = 'filesystem', 'path' = 'flights.csv', 'format' = 'csv');
CREATE TABLE weather (
  origin STRING, temp DOUBLE, wind_speed DOUBLE, time_hour TIMESTAMP(3),
  WATERMARK FOR time_hour AS time_hour
) WITH ('connector' = 'filesystem', 'path' = 'weather.csv', 'format' = 'csv');
CREATE TABLE airlines (carrier STRING, name STRING)
  WITH ('connector' = 'filesystem', 'path' = 'airlines.csv', 'format' = 'csv');
CREATE TABLE events (id BIGINT, tags ARRAY<STRING>, items ARRAY<ROW<sku STRING, n INT>>, props MAP<STRING, STRING>)
  WITH ('connector' = 'log', 'topic' = 'events', 'format' = 'json');
CREATE TABLE person (id BIGINT, name STRING, city STRING, state STRING, ts TIMESTAMP(3), extra STRING,
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH ('connector' = 'nexmark');
CREATE TABLE auction (id BIGINT, item_name STRING, initial_bid BIGINT, reserve BIGINT, ts TIMESTAMP(3),
  expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra STRING,
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH ('connector' = 'nexmark');
CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, ts TIMESTAMP(3),
  extra STRING, p_time AS PROCTIME(),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH ('connector' = 'nexmark');
";

/// Plans `sql` after the tables.
pub(crate) fn plan(sql: &str) -> Result<PlannedScript> {
    plan_with(sql, &[])
}

pub(crate) fn plan_with(sql: &str, settings: &[(&str, &str)]) -> Result<PlannedScript> {
    let settings: BTreeMap<String, String> =
        settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let options = PlanOptions { settings, ..PlanOptions::default() };
    plan_script(&format!("{TABLES}\n{sql}"), &options, &FakeConnectors)
}

/// The streaming graph of `sql` as EXPLAIN shows it, without the logical plan.
pub(crate) fn graph(sql: &str) -> String {
    match plan(sql) {
        Ok(script) => {
            let text = qanat_sql::explain(&script);
            let mut kept = String::new();
            let mut shown = false;
            for line in text.lines() {
                if line.starts_with("== ") {
                    shown = !line.starts_with("== Logical");
                }
                if shown && !line.starts_with("== Streaming") {
                    kept.push_str(line);
                    kept.push('\n');
                }
            }
            kept
        }
        Err(error) => refusal_text(&error),
    }
}

/// The error of `sql`: code, message, place within `sql`, hint.
pub(crate) fn refusal(sql: &str) -> String {
    match plan(sql) {
        Ok(script) => format!("accepted:\n{}", qanat_sql::explain(&script)),
        Err(error) => refusal_text(&error),
    }
}

fn refusal_text(error: &Error) -> String {
    use qanat_proto::Place;
    let before = TABLES.lines().count() as u64;
    let place = match error.place() {
        Some(Place::Sql { line, column }) => format!("{}:{column}", line.saturating_sub(before)),
        Some(other) => other.to_string(),
        None => "nowhere".to_owned(),
    };
    let hint = error.hint_text().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    format!("{} {} at {place}{hint}\n", error.code(), error.message())
}
