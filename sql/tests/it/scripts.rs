//! Whole scripts: sharing, jobs, settings, limits, stable ids, EXPLAIN.

use expect_test::expect;
use qanat_proto::error::Code;
use qanat_proto::graph::{JobGraph, OperatorKind};

use crate::catalog::{plan, plan_with};

const SINKS: &str = "
CREATE TABLE a (origin STRING, n BIGINT) WITH ('connector' = 'blackhole');
CREATE TABLE b (origin STRING, dest STRING) WITH ('connector' = 'blackhole');
";

fn sources(graph: &JobGraph) -> Vec<String> {
    graph
        .sources()
        .map(|(operator, _)| operator.output.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(","))
        .collect()
}

#[test]
fn a_source_is_read_once_with_the_union_of_columns() {
    let script = plan(&format!(
        "{SINKS}
        BEGIN STATEMENT SET;
        INSERT INTO a SELECT origin, distance FROM flights;
        INSERT INTO b SELECT origin, dest FROM flights;
        END"
    ))
    .expect("plans");
    assert_eq!(script.jobs.len(), 1);
    assert_eq!(sources(&script.jobs[0].graph), ["origin,dest,distance,time_hour"]);
    assert_eq!(script.jobs[0].inserts.len(), 2);
}

#[test]
fn unconnected_graphs_are_jobs() {
    let script = plan(&format!(
        "{SINKS} INSERT INTO a SELECT origin, distance FROM flights; INSERT INTO a SELECT city, id FROM person;"
    ))
    .expect("plans");
    assert_eq!(script.jobs.len(), 2);
}

#[test]
fn equal_inserts_are_two_sinks() {
    let script = plan(&format!(
        "{SINKS} INSERT INTO a SELECT origin, distance FROM flights; INSERT INTO a SELECT origin, distance FROM flights;"
    ))
    .expect("plans");
    assert_eq!(script.jobs[0].graph.sinks().count(), 2);
}

#[test]
fn operators_stand_in_topological_order_and_ids_are_distinct() {
    let script = plan(
        "SELECT c.auction FROM (SELECT auction, window_start ws, window_end we, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY auction, window_start, window_end) c
         JOIN TABLE(TUMBLE(TABLE auction, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) a ON c.ws = a.window_start AND c.we = a.window_end AND a.id = c.auction",
    )
    .expect("plans");
    let graph = &script.jobs[0].graph;
    let mut seen = std::collections::BTreeSet::new();
    for operator in &graph.operators {
        for edge in graph.inputs(operator.id) {
            assert!(seen.contains(&edge.from), "{} comes before its input", operator.name);
        }
        assert!(seen.insert(operator.id));
        let names: std::collections::BTreeSet<_> = operator.output.fields().iter().map(|f| f.name()).collect();
        assert_eq!(names.len(), operator.output.fields().len(), "{}", operator.name);
    }
}

/// The same text gives the same ids; reading one more column keeps the ids of the source and of the
/// aggregation (I1: state of the parts that did not change is found again).
#[test]
fn ids_are_stable_under_edits_elsewhere() {
    let query = |extra: &str| {
        format!(
            "{SINKS} INSERT INTO a SELECT origin, COUNT(*) FROM TABLE(TUMBLE(TABLE flights, DESCRIPTOR(time_hour), INTERVAL '1' HOUR)) GROUP BY window_start, window_end, origin; {extra}"
        )
    };
    let ids = |text: &str| {
        let script = plan(text).expect("plans");
        let graph = &script.jobs[0].graph;
        let kept = graph
            .operators
            .iter()
            .filter(|o| matches!(o.kind, OperatorKind::Source(_) | OperatorKind::WindowAggregate(_)));
        kept.map(|o| o.id).collect::<Vec<_>>()
    };
    let before = ids(&query(""));
    assert_eq!(before, ids(&query("")));
    assert_eq!(before, ids(&query("INSERT INTO b SELECT origin, tailnum FROM flights;")));
}

#[test]
fn a_union_with_itself_has_two_edges() {
    let script = plan("SELECT id FROM auction UNION ALL SELECT id FROM auction").expect("plans");
    let graph = &script.jobs[0].graph;
    let (sink, _) = graph.sinks().next().expect("a sink");
    let inputs: Vec<_> = graph.inputs(sink.id).iter().map(|e| e.from).collect();
    assert_eq!(inputs.len(), 2);
    assert_ne!(inputs[0], inputs[1]);
}

#[test]
fn settings_reach_the_operators_and_the_command_line_wins() {
    let query = "SET 'window.allowed-lateness' = '5 s'; SET 'parallelism.default' = '3';
        SELECT window_start, window_end, COUNT(*) FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end";
    let script = plan_with(query, &[("parallelism.default", "7")]).expect("plans");
    assert_eq!(script.settings.parallelism, 7);
    let late = script.jobs[0].graph.operators.iter().find_map(|o| match &o.kind {
        OperatorKind::WindowAggregate(node) => Some(node.allowed_lateness_ms),
        _ => None,
    });
    assert_eq!(late, Some(5_000));
}

#[test]
fn views_and_common_table_expressions() {
    let script = plan(
        "CREATE TEMPORARY VIEW hourly (o, ws, we, n) AS
           SELECT origin, window_start, window_end, COUNT(*) FROM TABLE(TUMBLE(TABLE flights, DESCRIPTOR(time_hour), INTERVAL '1' HOUR)) GROUP BY origin, window_start, window_end;
         WITH busy AS (SELECT * FROM hourly WHERE n > 10) SELECT o, n FROM busy",
    )
    .expect("plans");
    assert_eq!(script.jobs.len(), 1);
}

#[test]
fn a_long_sum_is_an_error_or_a_plan_and_never_a_crash() {
    let sum = |terms: usize| format!("SELECT {} FROM bid", vec!["price"; terms].join(" + "));
    assert!(plan(&sum(400)).is_ok());
    assert_eq!(plan(&sum(2_000)).expect_err("too long").code(), Code::SqlLimit);
    let nested = format!("SELECT {}price{} FROM bid", "abs(".repeat(30), ")".repeat(30));
    match plan(&nested) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.code(), Code::SqlLimit),
    }
}

#[test]
fn a_graph_survives_json() {
    let script = plan("SELECT carrier, 0.5 * distance AS d FROM flights WHERE origin = 'JFK'").expect("plans");
    let text = serde_json::to_string(&script.jobs[0].graph).expect("serializes");
    assert_eq!(serde_json::from_str::<JobGraph>(&text).expect("parses"), script.jobs[0].graph);
}

#[test]
fn every_encoded_expression_decodes_over_its_input() {
    let script = plan(
        "SELECT UPPER(carrier) AS c, CAST(flight AS STRING) || '-' || origin AS f, COALESCE(arr_delay, 0) AS d FROM flights WHERE dep_delay > 1.5 AND dest LIKE 'S%'",
    )
    .expect("plans");
    let graph = &script.jobs[0].graph;
    for operator in &graph.operators {
        if let OperatorKind::Calc(node) = &operator.kind {
            let input = graph.operator(graph.inputs(operator.id)[0].from).expect("an input").output.clone();
            for named in &node.projection {
                qanat_sql::expr::physical(&named.expr, &input).expect("a physical expression");
            }
            let filter = node.filter.as_ref().expect("a filter");
            qanat_sql::expr::physical(filter, &input).expect("a physical filter");
        }
    }
}

#[test]
fn explain_statement() {
    let script = plan("EXPLAIN SELECT carrier FROM flights WHERE distance > 100").expect("plans");
    assert!(script.jobs.is_empty());
    expect![[r#"
        == Logical plan: print ==
        Projection: flights.carrier
          Filter: flights.distance > Int32(100)
            TableScan: flights projection=[carrier, distance], partial_filters=[flights.distance > Int32(100)]

        == Streaming graph ==
        [1] Source(flights)
            columns: carrier STRING, distance INT, time_hour TIMESTAMP(3)
            watermark: (time_hour - INTERVAL '24 HOURS')
            read: bounded
            state: offsets and watermark of each split
        [2] Calc
            from [1] forward
            filter: (distance > 100)
            project: carrier
        [3] Sink(print)
            from [2] forward
            columns: carrier STRING
            connector: print
            state: what is staged and not yet committed
    "#]]
    .assert_eq(&script.explains.join("\n"));
}

#[test]
fn describe_and_show() {
    let script = plan("DESCRIBE bid; SHOW TABLES").expect("plans");
    expect![[r#"
        auction BIGINT
        bidder BIGINT
        price BIGINT
        channel STRING
        url STRING
        ts TIMESTAMP(3) WATERMARK AS (ts - INTERVAL '4.000000000 SECS')
        extra STRING
        p_time TIMESTAMP(3) AS proctime()
        --
        airlines
        auction
        bid
        events
        flights
        person
        weather"#]]
    .assert_eq(&script.listings.join("\n--\n"));
}

#[test]
fn values_that_fit_are_cast_into_the_sink() {
    let script = plan(
        "CREATE TABLE wide (id BIGINT, d DECIMAL(23, 3), x DOUBLE, one INT, late INT) WITH ('connector' = 'blackhole');
         INSERT INTO wide SELECT flight, 0.908 * distance, arr_delay, 1, arr_delay - 1 FROM flights",
    );
    let script = script.expect("plans");
    let (sink, _) = script.jobs[0].graph.sinks().next().expect("a sink");
    expect!["id Int64, d Decimal128(23, 3), x Float64, one Int32, late Int32"].assert_eq(
        &sink.output.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect::<Vec<_>>().join(", "),
    );
}

#[test]
fn show_create_table_declares_the_table_again() {
    let declared = "CREATE TABLE t (`a b` INT NOT NULL, c ROW<x INT, y ARRAY<STRING>> COMMENT 'it''s', d AS `a b` + 1,
        o STRING METADATA FROM 'origin' VIRTUAL, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND,
        PRIMARY KEY (`a b`) NOT ENFORCED) COMMENT 'rows' PARTITIONED BY (`a b`)
        WITH ('connector' = 'log', 'topic' = 'it''s')";
    let shown = |declared: &str| plan(&format!("{declared};\nSHOW CREATE TABLE t")).expect("plans").listings.concat();
    let text = shown(declared);
    expect![[r#"
        CREATE TABLE `t` (
          `a b` INT NOT NULL,
          `c` ROW<x INT, y ARRAY<STRING>> COMMENT 'it''s',
          `d` AS `a b` + 1,
          `o` STRING METADATA FROM 'origin' VIRTUAL,
          `ts` TIMESTAMP(3),
          WATERMARK FOR `ts` AS ts - INTERVAL '5000 milliseconds',
          PRIMARY KEY (`a b`) NOT ENFORCED
        )
        COMMENT 'rows'
        PARTITIONED BY (`a b`)
        WITH (
          'connector' = 'log',
          'topic' = 'it''s'
        )"#]]
    .assert_eq(&text);
    assert_eq!(shown(&text), text);
}
