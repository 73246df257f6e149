//! Plans as coordinators send them to executors: encoded expressions, and the graphs that hold them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion_common::DFSchema;
use qanat_connectors::contract::{Context, Opener, ReadRequest};
use qanat_connectors::{Catalog, Registry};
use qanat_proto::Code;
use qanat_proto::connector::VALUES_CONNECTOR;
use qanat_proto::graph::{EncodedExpr, JobGraph, OperatorKind};
use qanat_proto::physical::PhysicalGraph;
use qanat_sql::{PlanOptions, expr, plan_script};
use qanat_storage::env::Env;
use qanat_storage::log::Topics;

use crate::mutate::Form;
use crate::verdict::{json, refused};
use crate::{MODEST, Seed, Target, Verdict};

/// An expression over the columns of [`schema`].
pub const EXPRESSION: Target = Target {
    name: "expression",
    body: expression,
    form: Form::Bytes,
    meaning: None,
    seeds: expression_seeds,
    rounds: 3_000,
    memory: ROOMY_FOR_TREES,
};

/// A message of two bytes may be a node of some hundred.
const ROOMY_FOR_TREES: (usize, usize) = (32 << 20, 16 << 10);

/// Codes with which an executor refuses an expression.
const REFUSALS: &[Code] = &[
    Code::Internal,
    Code::SqlLimit,
    Code::UnknownFunction,
    Code::UnknownColumn,
    Code::TypeMismatch,
    Code::SqlUnsupported,
];

fn expression(input: &[u8]) -> Verdict {
    let encoded = EncodedExpr { bytes: input.to_vec(), text: String::new() };
    let schema = schema();
    let read = match expr::decode(&encoded, &schema) {
        Ok(read) => read,
        Err(error) => return refused(&error, REFUSALS),
    };
    // Read, written and read again; what does not fit the columns cannot be written.
    let columns = DFSchema::try_from(Arc::clone(&schema)).expect("names are unique");
    match expr::encode(&read, &columns) {
        Ok(written) => {
            let again = expr::decode(&written, &schema).expect("what was written is read");
            assert_eq!(format!("{again:?}"), format!("{read:?}"));
        }
        Err(error) => {
            refused(&error, REFUSALS);
        }
    }
    for asked in [expr::physical(&encoded, &schema).err(), expr::output_type(&encoded, &schema).err()] {
        for error in asked.iter() {
            refused(error, REFUSALS);
        }
    }
    Verdict::Accepted
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("n", DataType::Int64, true),
        Field::new("s", DataType::Utf8, true),
        Field::new("b", DataType::Boolean, true),
        Field::new("d", DataType::Decimal128(20, 2), true),
        Field::new("f", DataType::Float64, true),
        Field::new("t", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("l", DataType::List(Arc::new(Field::new("item", DataType::Int32, true))), true),
    ]))
}

/// Tables and queries whose plans hold every kind of expression and most operators.
const TABLES: &str = "CREATE TABLE a (n BIGINT, s STRING, b BOOLEAN, d DECIMAL(20, 2), f DOUBLE, t TIMESTAMP(3), l ARRAY<INT>, \
     WATERMARK FOR t AS t - INTERVAL '5' SECOND) WITH ('connector' = 'datagen', 'number-of-rows' = '10');\n\
     CREATE TABLE p (x STRING) WITH ('connector' = 'print');\n";

const QUERIES: &[(&str, &str)] = &[
    ("arithmetic", "SELECT CAST(n * 2 + 1 - n / 3 AS STRING) FROM a WHERE n > 5 AND NOT b OR f < 0.5"),
    (
        "texts",
        "SELECT UPPER(s) || LOWER(s) FROM a WHERE s LIKE 'a%' AND s NOT LIKE '%!%' ESCAPE '!' OR s IN ('x', 'y')",
    ),
    ("case", "SELECT CASE WHEN n IS NULL THEN 'none' WHEN n BETWEEN 1 AND 9 THEN 'few' ELSE s END FROM a"),
    ("truth", "SELECT s FROM a WHERE b IS TRUE OR b IS NOT FALSE OR b IS UNKNOWN OR s IS NOT NULL"),
    ("time", "SELECT DATE_FORMAT(t, 'yyyy-MM-dd') FROM a WHERE t > TIMESTAMP '2020-01-01 00:00:00'"),
    ("decimal", "SELECT CAST(d + CAST(1.5 AS DECIMAL(10, 3)) AS STRING) FROM a WHERE -d < 10"),
    ("try", "SELECT CAST(TRY_CAST(s AS INT) AS STRING) FROM a"),
    (
        "window",
        "SELECT CAST(COUNT(*) AS STRING) FROM TABLE(TUMBLE(TABLE a, DESCRIPTOR(t), INTERVAL '10' SECOND)) GROUP BY s, window_start, window_end",
    ),
    ("values", "SELECT v FROM (VALUES (1, 'one'), (2, 'two')) AS w (k, v)"),
    ("unnest", "SELECT CAST(e AS STRING) FROM a CROSS JOIN UNNEST(l) AS u (e)"),
];

fn graphs() -> Vec<(&'static str, JobGraph)> {
    let graph = |(name, query): &(&'static str, &str)| {
        let script = format!("{TABLES}INSERT INTO p {query};");
        let planned = plan_script(&script, &PlanOptions::default(), &Catalog);
        let planned = planned.unwrap_or_else(|e| panic!("`{name}` is not planned: {e}"));
        planned.jobs.into_iter().map(|job| (*name, job.graph)).collect::<Vec<_>>()
    };
    QUERIES.iter().flat_map(graph).collect()
}

fn expression_seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (name, graph) in graphs() {
        let mut found: Vec<Vec<u8>> = Vec::new();
        for operator in &graph.operators {
            if let OperatorKind::Calc(node) = &operator.kind {
                found.extend(node.filter.iter().map(|filter| filter.bytes.clone()));
                found.extend(node.projection.iter().map(|named| named.expr.bytes.clone()));
            }
            if let OperatorKind::Source(node) = &operator.kind {
                found.extend(node.watermark.iter().map(|watermark| watermark.expr.bytes.clone()));
            }
        }
        found.dedup();
        for (index, bytes) in found.into_iter().enumerate() {
            let is_taken = expression(&bytes) == Verdict::Accepted;
            seeds.push((format!("{}-{name}-{index}", if is_taken { "ok" } else { "bad" }), bytes));
        }
    }
    seeds
}

/// A graph, as it stands in a deployment and in a manifest.
pub const GRAPH: Target = Target {
    name: "graph",
    body: graph,
    form: Form::Text,
    meaning: None,
    seeds: graph_seeds,
    rounds: 600,
    memory: MODEST,
};

fn graph(input: &[u8]) -> Verdict {
    let Some(graph) = json::<JobGraph>(input) else { return Verdict::Refused };
    for parallelism in [1, 4] {
        let expanded = PhysicalGraph::expand(&graph, parallelism);
        let in_tasks: usize = expanded.tasks.iter().map(Vec::len).sum();
        assert_eq!(in_tasks, expanded.operators.len(), "each operator is in one task");
    }
    // Rows that a plan brings along.
    for (_, source) in graph.sources().filter(|(_, source)| source.table.connector == VALUES_CONNECTOR) {
        let request = ReadRequest {
            projection: (0..source.table.physical.fields().len()).collect(),
            unread: Vec::new(),
            metadata: Vec::new(),
            batch_rows: 8,
            bounded: true,
            filter: None,
        };
        if let Err(error) = opener().source(&source.table, request) {
            refused(&error, &[Code::UnknownVersion, Code::Internal]);
        }
    }
    let _ = (graph.is_bounded(), graph.sink_parallelism(), graph.find("Sink").is_ok());
    Verdict::Accepted
}

fn opener() -> Registry {
    let env = Env::sim(1).env;
    let topics = Arc::new(Topics::open_read_only(env.clone(), "/topics"));
    Registry::new(Context { env, topics, base: "/".into() })
}

/// A graph that is written reads as the same.
pub(crate) fn same_graph(graph: &JobGraph) {
    let written = serde_json::to_vec(graph).expect("a graph is JSON");
    let read: JobGraph = serde_json::from_slice(&written).expect("what was written is read");
    assert!(read == *graph, "a graph changes on its way");
}

fn graph_seeds() -> Vec<Seed> {
    let wanted = ["texts", "window", "unnest", "values"];
    let seed =
        |(name, graph): (&str, JobGraph)| (format!("ok-{name}"), serde_json::to_vec(&graph).expect("a graph is JSON"));
    let mut seeds: Vec<Seed> = graphs().into_iter().filter(|(name, _)| wanted.contains(name)).map(seed).collect();
    seeds.push(("bad-no-edges".to_owned(), br#"{"operators":[]}"#.to_vec()));
    seeds
}
