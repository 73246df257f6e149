//! Joins of windows, and lookups.

use crate::catalog::graph;
use expect_test::expect;

#[test]
fn lookup_of_a_bounded_table() {
    expect![[r#"
        [1] Source(flights)
            columns: carrier STRING, flight INT, time_hour TIMESTAMP(3)
            watermark: (time_hour - INTERVAL '24 HOURS')
            read: bounded
            state: offsets and watermark of each split
        [2] Calc
            from [1] forward
            project: carrier, flight
        [3] LookupJoin(Inner, airlines)
            from [2] forward
            lookup: inner, table airlines (filesystem)
            loads: carrier_1 STRING, name STRING
            refresh: loaded once
            state: the version of the loaded table
        [4] Calc
            from [3] forward
            project: flight, "name" AS name
        [5] Sink(print)
            from [4] forward
            columns: flight INT, name STRING
            connector: print
            state: what is staged and not yet committed
    "#]]
    .assert_eq(&graph(
        r#"
SELECT f.flight, a.name FROM flights f JOIN airlines a ON f.carrier = a.carrier
"#,
    ));
}

#[test]
fn lookup_as_of_processing_time() {
    expect![[r#"
        [1] Source(flights)
            columns: carrier STRING, flight INT, time_hour TIMESTAMP(3)
            watermark: (time_hour - INTERVAL '24 HOURS')
            read: bounded
            state: offsets and watermark of each split
        [2] Calc
            from [1] forward
            project: carrier, flight
        [3] LookupJoin(Left, airlines)
            from [2] forward
            lookup: left, table airlines (filesystem)
            loads: carrier_1 STRING, name STRING
            refresh: loaded once
            state: the version of the loaded table
        [4] Calc
            from [3] forward
            project: flight, "name" AS name
        [5] Sink(print)
            from [4] forward
            columns: flight INT, name STRING
            connector: print
            state: what is staged and not yet committed
    "#]].assert_eq(&graph(
        r#"
SELECT f.flight, a.name FROM flights AS f LEFT JOIN airlines FOR SYSTEM_TIME AS OF f.proctime AS a ON f.carrier = a.carrier
"#,
    ));
}

#[test]
fn window_join() {
    expect![[r#"
        [1] Source(flights)
            columns: flight INT, origin STRING, time_hour TIMESTAMP(3)
            watermark: (time_hour - INTERVAL '24 HOURS')
            read: bounded
            state: offsets and watermark of each split
        [2] Source(weather)
            columns: origin STRING, temp DOUBLE, time_hour TIMESTAMP(3)
            watermark: time_hour
            read: bounded
            state: offsets and watermark of each split
        [3] AssignWindow(TUMBLE 1h)
            from [1] forward
            time: event
        [4] Calc
            from [3] forward
            project: flight, origin, window_start, window_end
        [5] AssignWindow(TUMBLE 1h)
            from [2] forward
            time: event
        [6] Calc
            from [5] forward
            project: origin AS origin_1, "temp" AS temp, window_start AS window_start_1, window_end AS window_end_1
        [7] WindowJoin(Inner, TUMBLE 1h)
            left from [4] hash(origin)
            right from [6] hash(origin_1)
            time: event
            state: rows of both sides per key and open window
        [8] Calc
            from [7] forward
            project: origin, flight, "temp" AS temp
        [9] Sink(print)
            from [8] forward
            columns: origin STRING, flight INT, temp DOUBLE
            connector: print
            state: what is staged and not yet committed
    "#]].assert_eq(&graph(
        r#"
SELECT f.origin, f.flight, w.temp FROM (SELECT * FROM TABLE(TUMBLE(TABLE flights, DESCRIPTOR(time_hour), INTERVAL '1' HOUR))) f JOIN (SELECT * FROM TABLE(TUMBLE(TABLE weather, DESCRIPTOR(time_hour), INTERVAL '1' HOUR))) w ON f.window_start = w.window_start AND f.window_end = w.window_end AND f.origin = w.origin
"#,
    ));
}

#[test]
fn semi_join_in_a_window() {
    expect![[r#"
        [1] Source(flights)
            columns: flight INT, origin STRING, time_hour TIMESTAMP(3)
            watermark: (time_hour - INTERVAL '24 HOURS')
            read: bounded
            state: offsets and watermark of each split
        [2] Source(weather)
            columns: origin STRING, time_hour TIMESTAMP(3)
            watermark: time_hour
            read: bounded
            state: offsets and watermark of each split
        [3] AssignWindow(TUMBLE 1h)
            from [1] forward
            time: event
        [4] Calc
            from [3] forward
            project: flight, origin, window_start, window_end
        [5] AssignWindow(TUMBLE 1h)
            from [2] forward
            time: event
        [6] Calc
            from [5] forward
            project: origin AS origin_1, window_end AS window_end_1, window_start AS window_start_1
        [7] WindowJoin(LeftSemi, TUMBLE 1h)
            left from [4] hash(origin)
            right from [6] hash(origin_1)
            time: event
            state: rows of both sides per key and open window
        [8] Calc
            from [7] forward
            project: flight
        [9] Sink(print)
            from [8] forward
            columns: flight INT
            connector: print
            state: what is staged and not yet committed
    "#]].assert_eq(&graph(
        r#"
SELECT f.flight FROM (SELECT * FROM TABLE(TUMBLE(TABLE flights, DESCRIPTOR(time_hour), INTERVAL '1' HOUR))) f WHERE f.origin IN (SELECT w.origin FROM (SELECT * FROM TABLE(TUMBLE(TABLE weather, DESCRIPTOR(time_hour), INTERVAL '1' HOUR))) w WHERE f.window_start = w.window_start AND f.window_end = w.window_end)
"#,
    ));
}

#[test]
fn anti_join_in_a_window() {
    expect![[r#"
        [1] Source(flights)
            columns: flight INT, origin STRING, time_hour TIMESTAMP(3)
            watermark: (time_hour - INTERVAL '24 HOURS')
            read: bounded
            state: offsets and watermark of each split
        [2] Source(weather)
            columns: origin STRING, time_hour TIMESTAMP(3)
            watermark: time_hour
            read: bounded
            state: offsets and watermark of each split
        [3] AssignWindow(TUMBLE 1h)
            from [1] forward
            time: event
        [4] Calc
            from [3] forward
            project: flight, origin, window_start, window_end
        [5] AssignWindow(TUMBLE 1h)
            from [2] forward
            time: event
        [6] Calc
            from [5] forward
            project: origin AS origin_1, window_start AS window_start_1, window_end AS window_end_1
        [7] WindowJoin(LeftAnti, TUMBLE 1h)
            left from [4] hash(origin)
            right from [6] hash(origin_1)
            time: event
            state: rows of both sides per key and open window
        [8] Calc
            from [7] forward
            project: flight
        [9] Sink(print)
            from [8] forward
            columns: flight INT
            connector: print
            state: what is staged and not yet committed
    "#]].assert_eq(&graph(
        r#"
SELECT f.flight FROM (SELECT * FROM TABLE(TUMBLE(TABLE flights, DESCRIPTOR(time_hour), INTERVAL '1' HOUR))) f WHERE NOT EXISTS (SELECT * FROM (SELECT * FROM TABLE(TUMBLE(TABLE weather, DESCRIPTOR(time_hour), INTERVAL '1' HOUR))) w WHERE f.window_start = w.window_start AND f.window_end = w.window_end AND f.origin = w.origin)
"#,
    ));
}

#[test]
fn outer_window_join_with_a_residual() {
    expect![[r#"
        [1] Source(auction)
            columns: id BIGINT, reserve BIGINT, ts TIMESTAMP(3)
            watermark: (ts - INTERVAL '4.000000000 SECS')
            read: unbounded
            state: offsets and watermark of each split
        [2] Source(bid)
            columns: auction BIGINT, price BIGINT, ts TIMESTAMP(3)
            watermark: (ts - INTERVAL '4.000000000 SECS')
            read: unbounded
            state: offsets and watermark of each split
        [3] AssignWindow(TUMBLE 1min)
            from [1] forward
            time: event
        [4] Calc
            from [3] forward
            project: id, reserve, window_start, window_end
        [5] AssignWindow(TUMBLE 1min)
            from [2] forward
            time: event
        [6] Calc
            from [5] forward
            project: auction, price, window_start AS window_start_1, window_end AS window_end_1
        [7] WindowJoin(Full, TUMBLE 1min)
            left from [4] hash(id)
            right from [6] hash(auction)
            time: event
            filter: (price > (reserve + 1))
            state: rows of both sides per key and open window
        [8] Calc
            from [7] forward
            project: id, price
        [9] Sink(print)
            from [8] forward
            columns: id BIGINT, price BIGINT
            connector: print
            state: what is staged and not yet committed
    "#]]
    .assert_eq(&graph(
        r#"
SELECT a.id, b.price FROM TABLE(TUMBLE(TABLE auction, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) a
FULL JOIN TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) b
ON a.window_start = b.window_start AND a.window_end = b.window_end AND a.id = b.auction AND b.price > a.reserve + 1
"#,
    ));
}

#[test]
fn a_table_before_the_stream_is_still_the_lookup() {
    expect![[r#"
        [1] Source(flights)
            columns: carrier STRING, flight INT, origin STRING, time_hour TIMESTAMP(3)
            watermark: (time_hour - INTERVAL '24 HOURS')
            read: bounded
            state: offsets and watermark of each split
        [2] Calc
            from [1] forward
            project: carrier, flight, origin, upper(carrier) AS join_key
        [3] LookupJoin(Inner, airlines)
            from [2] forward
            lookup: inner, table airlines (filesystem)
            loads: carrier_1 STRING, name STRING
            loads where: "name" LIKE 'U%'
            filter: ("name" <> origin)
            refresh: loaded once
            state: the version of the loaded table
        [4] Calc
            from [3] forward
            project: "name" AS name, flight
        [5] Sink(print)
            from [4] forward
            columns: name STRING, flight INT
            connector: print
            state: what is staged and not yet committed
    "#]].assert_eq(&graph(
        "SELECT a.name, f.flight FROM airlines a JOIN flights f ON UPPER(f.carrier) = a.carrier AND a.name <> f.origin WHERE a.name LIKE 'U%'",
    ));
}

#[test]
fn a_lookup_in_values() {
    expect![[r#"
        [1] Source(flights)
            columns: carrier STRING, flight INT, time_hour TIMESTAMP(3)
            watermark: (time_hour - INTERVAL '24 HOURS')
            read: bounded
            state: offsets and watermark of each split
        [2] Calc
            from [1] forward
            project: carrier, flight
        [3] LookupJoin(Inner, values_c2b96e9777dac1b2)
            from [2] forward
            lookup: inner, table values_c2b96e9777dac1b2 (values)
            loads: code STRING, name STRING
            refresh: loaded once
            state: the version of the loaded table
        [4] Calc
            from [3] forward
            project: flight, "name" AS name
        [5] Sink(print)
            from [4] forward
            columns: flight INT, name STRING
            connector: print
            state: what is staged and not yet committed
    "#]].assert_eq(&graph(
        "SELECT f.flight, c.name FROM flights f JOIN (VALUES ('AA', 'American')) AS c (code, name) ON f.carrier = c.code",
    ));
}

#[test]
fn times_that_are_near() {
    expect![[r#"
        [1] Source(flights)
            columns: flight INT, origin STRING, time_hour TIMESTAMP(3)
            watermark: (time_hour - INTERVAL '24 HOURS')
            read: bounded
            state: offsets and watermark of each split
        [2] Source(weather)
            columns: origin STRING, temp DOUBLE, time_hour TIMESTAMP(3)
            watermark: time_hour
            read: bounded
            state: offsets and watermark of each split
        [3] Calc
            from [2] forward
            filter: ("temp" > 0.0)
            project: origin AS origin_1, "temp" AS temp, time_hour AS time_hour_1
        [4] IntervalJoin(Left)
            left from [1] hash(origin)
            right from [3] hash(origin_1)
            times: left less right between -5min and 1h
            filter: ((time_hour_1 >= (time_hour - INTERVAL '1 HOURS')) AND (time_hour_1 <= (INTERVAL '5 MINS' + time_hour)))
            state: rows of both sides until none can come that they meet
        [5] Calc
            from [4] forward
            project: flight, "temp" AS temp, time_hour
        [6] Sink(print)
            from [5] forward
            columns: flight INT, temp DOUBLE, time_hour TIMESTAMP(3)
            connector: print
            state: what is staged and not yet committed
    "#]].assert_eq(&graph(
        r#"SELECT f.flight, w.temp, f.time_hour FROM flights f LEFT JOIN weather w
           ON f.origin = w.origin AND w.time_hour BETWEEN f.time_hour - INTERVAL '1' HOUR AND INTERVAL '5' MINUTE + f.time_hour AND w.temp > 0"#,
    ));
}

#[test]
fn times_that_are_bound_on_one_end_alone() {
    expect![[r#"
        [1] Source(flights)
            columns: flight INT, origin STRING, time_hour TIMESTAMP(3)
            watermark: (time_hour - INTERVAL '24 HOURS')
            read: bounded
            state: offsets and watermark of each split
        [2] Source(weather)
            columns: origin STRING, temp DOUBLE, time_hour TIMESTAMP(3)
            watermark: time_hour
            read: bounded
            state: offsets and watermark of each split
        [3] Calc
            from [2] forward
            project: origin AS origin_1, "temp" AS temp, time_hour AS time_hour_1
        [4] Join(Inner)
            left from [1] hash(origin)
            right from [3] hash(origin_1)
            filter: (time_hour_1 >= time_hour)
            state: all rows of both sides, for as long as the job lives
        [5] Calc
            from [4] forward
            project: flight, "temp" AS temp
        [6] Sink(print)
            from [5] forward
            columns: flight INT, temp DOUBLE
            connector: print
            state: what is staged and not yet committed
    "#]].assert_eq(&graph(
        r#"SELECT f.flight, w.temp FROM flights f JOIN weather w ON f.origin = w.origin AND w.time_hour >= f.time_hour"#,
    ));
}

#[test]
fn equal_times_and_a_window_over_what_was_joined() {
    expect![[r#"
        [1] Source(flights)
            columns: origin STRING, time_hour TIMESTAMP(3)
            watermark: (time_hour - INTERVAL '24 HOURS')
            read: bounded
            state: offsets and watermark of each split
        [2] Source(weather)
            columns: origin STRING, time_hour TIMESTAMP(3)
            watermark: time_hour
            read: bounded
            state: offsets and watermark of each split
        [3] Calc
            from [2] forward
            project: origin AS origin_1, time_hour AS time_hour_1
        [4] IntervalJoin(Inner)
            left from [1] hash(time_hour, origin)
            right from [3] hash(time_hour_1, origin_1)
            times: left less right between 0ms and 0ms
            state: rows of both sides until none can come that they meet
        [5] WindowAggregate(TUMBLE 1d)
            from [4] single
            time: event
            keys: 
            aggregates: count(*) AS count
            state: 1 accumulators per key and open window
        [6] Calc
            from [5] forward
            project: window_start, "count" AS count(*)
        [7] Sink(print)
            from [6] forward
            columns: window_start TIMESTAMP(3) NOT NULL, count(*) BIGINT NOT NULL
            connector: print
            state: what is staged and not yet committed
    "#]].assert_eq(&graph(
        r#"SELECT window_start, COUNT(*) FROM TABLE(TUMBLE((
             SELECT f.time_hour, w.temp FROM flights f JOIN weather w ON f.time_hour = w.time_hour AND f.origin = w.origin
           ), DESCRIPTOR(time_hour), INTERVAL '1' DAY)) GROUP BY window_start, window_end"#,
    ));
}

#[test]
fn joins_that_grow_for_ever_are_warned_of() {
    let warnings = |query: &str| {
        let all = crate::catalog::plan(query).expect("plans").warnings;
        all.into_iter().filter(|warning| !warning.contains("(print)")).collect::<Vec<_>>().join("\n")
    };
    expect!["Join(Inner) keeps all rows that reach it from `auction` and 1 more, which has no end: its state grows for as long as the job lives. Times of both sides in its condition would bound it: `b.ts BETWEEN a.ts AND a.ts + INTERVAL '1' HOUR`; so would `SET 'table.exec.state.ttl' = '1 d'`, or a hint SELECT /*+ STATE_TTL('a' = '1 d') */, which forgets what is older"].assert_eq(&warnings(
        "SELECT a.id FROM auction a JOIN (SELECT auction, COUNT(*) AS n FROM bid GROUP BY auction) AS b ON a.id = b.auction",
    ));
    let near =
        "SELECT a.id FROM auction a JOIN bid b ON a.id = b.auction AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '1' DAY";
    assert_eq!(warnings(near), "");
    assert_eq!(warnings("SELECT f.flight FROM flights f JOIN weather w ON f.origin = w.origin"), "", "both end");
    let hinted = |hint: &str| {
        let groups = "(SELECT auction, COUNT(*) AS n FROM bid GROUP BY auction)";
        warnings(&format!("SELECT /*+ STATE_TTL({hint}) */ a.id FROM auction a JOIN {groups} AS b ON a.id = b.auction"))
    };
    assert_eq!(hinted("'a' = '1 d', 'b' = '2 d'"), "");
    expect!["Join(Inner) keeps all rows that reach it from `bid`, which has no end: its state grows for as long as the job lives. Times of both sides in its condition would bound it: `b.ts BETWEEN a.ts AND a.ts + INTERVAL '1' HOUR`; so would `SET 'table.exec.state.ttl' = '1 d'`, or a hint SELECT /*+ STATE_TTL('a' = '1 d') */, which forgets what is older"].assert_eq(&hinted("'a' = '1 d'"));
    expect!["STATE_TTL of `bid` changes nothing: it is for joins without a window, GROUP BY, row numbers and OVER of its own SELECT"].assert_eq(&warnings("SELECT /*+ STATE_TTL('bid' = '1 d') */ price FROM bid"));
}

#[test]
fn a_hint_is_for_the_tables_of_its_select() {
    expect![[r#"
        [1] Source(auction)
            columns: id BIGINT, ts TIMESTAMP(3)
            watermark: (ts - INTERVAL '4.000000000 SECS')
            read: unbounded
            state: offsets and watermark of each split
        [2] Source(bid)
            columns: auction BIGINT, price BIGINT, ts TIMESTAMP(3)
            watermark: (ts - INTERVAL '4.000000000 SECS')
            read: unbounded
            state: offsets and watermark of each split
        [3] Calc
            from [2] forward
            filter: (price > 10)
            project: auction
        [4] GroupAggregate
            from [3] hash(auction)
            keys: auction
            aggregates: count(*) AS count
            changes: each row that is replaced is taken back
            state: 1 accumulators per key, until nobody has touched it for 2h
            not deterministic: what is older than the time to live is forgotten
        [5] Calc
            from [1] forward
            project: id
        [6] Join(Left)
            left from [5] hash(id)
            right from [4] hash(auction)
            changes: each row that is replaced is taken back
            state: rows of the left side that came within 1d, all rows of the right side
            not deterministic: what is older than the time to live is forgotten
        [7] Calc
            from [6] forward
            project: id, "count" AS n
            changes: each row that is replaced is taken back
        [8] Sink(print)
            from [7] forward
            columns: id BIGINT, n BIGINT
            connector: print
            changes: each row that is replaced is taken back
            state: what is staged and not yet committed
    "#]].assert_eq(&graph(
        r#"
SELECT /*+ STATE_TTL('a' = '1 d', 'b' = '0 s') */ a.id, b.n FROM auction a
  LEFT JOIN (SELECT /*+ STATE_TTL('bid' = '2 h') */ auction, COUNT(*) AS n FROM bid WHERE price > 10 GROUP BY auction) AS b ON a.id = b.auction
"#,
    ));
}

#[test]
fn a_hint_is_not_for_what_is_around_its_select() {
    let around = "SELECT auction, COUNT(*) FROM (SELECT /*+ STATE_TTL('b' = '1 d') */ auction FROM bid AS b) AS x GROUP BY auction";
    assert!(graph(around).contains("1 accumulators per key, for as long as the job lives"));
    for unused in [
        around,
        "SELECT /*+ STATE_TTL('a' = '1 d') */ f.flight, a.name FROM flights f JOIN airlines a ON f.carrier = a.carrier",
        "SELECT /*+ STATE_TTL('b' = '1 d') */ COUNT(*) FROM bid AS b",
    ] {
        let warnings = crate::catalog::plan(unused).expect("plans").warnings;
        assert!(warnings.iter().any(|warning| warning.contains("changes nothing")), "{unused}: {warnings:?}");
    }
    let value = "SELECT price FROM bid WHERE price > (SELECT /*+ STATE_TTL('s' = '1 d') */ n FROM (SELECT MAX(price) AS n FROM bid) AS s)";
    assert!(crate::catalog::plan(value).is_ok(), "a value is one with a hint too");
}

#[test]
fn equal_queries_with_other_hints_are_operators_of_their_own() {
    let query = |hint: &str| format!("SELECT {hint} auction, COUNT(*) FROM bid GROUP BY auction;");
    let groups = |hints: [&str; 2]| graph(&hints.map(query).concat()).matches("GroupAggregate").count();
    assert_eq!(groups(["/*+ STATE_TTL('bid' = '1 d') */", "/*+ STATE_TTL('bid' = '1 d') */"]), 1);
    assert_eq!(groups(["/*+ STATE_TTL('bid' = '1 d') */", "/*+ STATE_TTL('bid' = '2 d') */"]), 2);
    assert_eq!(groups(["", "/*+ STATE_TTL('bid' = '1 d') */"]), 2);
}

#[test]
fn a_join_with_the_versions_of_a_table() {
    expect![[r#"
        [1] Source(flights)
            columns: carrier STRING, flight INT, origin STRING, distance INT, time_hour TIMESTAMP(3)
            watermark: (time_hour - INTERVAL '24 HOURS')
            read: bounded
            state: offsets and watermark of each split
        [2] Source(fares)
            columns: carrier STRING NOT NULL, class STRING, fare INT, since TIMESTAMP(3)
            watermark: since
            read: unbounded
            state: offsets and watermark of each split
        [3] Calc
            from [2] forward
            project: carrier AS carrier_1, "class" AS class, fare, since
        [4] TemporalJoin(Left, fares)
            left from [1] hash(carrier)
            right from [3] hash(carrier_1)
            version: of the left row's time
            filter: (((fare > distance) AND (origin = "class")) AND (fare > 3))
            state: rows of the left side until the watermark has passed them; of each key the version that holds then, and later ones
        [5] Calc
            from [4] forward
            project: flight, fare, time_hour
        [6] Sink(print)
            from [5] forward
            columns: flight INT, fare INT, time_hour TIMESTAMP(3)
            connector: print
            state: what is staged and not yet committed
    "#]].assert_eq(&graph(
        r#"
CREATE TABLE fares (carrier STRING, class STRING, fare INT, since TIMESTAMP(3), PRIMARY KEY (carrier) NOT ENFORCED,
  WATERMARK FOR since AS since) WITH ('connector' = 'log', 'topic' = 'fares', 'changelog' = 'upsert', 'format' = 'json');
SELECT f.flight, a.fare, f.time_hour FROM flights f
  LEFT JOIN fares FOR SYSTEM_TIME AS OF f.time_hour AS a ON f.carrier = a.carrier AND f.origin = a.class AND a.fare > 3 AND a.fare > f.distance
"#,
    ));
}
