//! Queries and the streaming graphs they become.
//!
//! Longer than 800 lines: one file of snapshots, which nobody reads from top to bottom.

use expect_test::expect;

use crate::catalog::graph;

#[test]
fn q0_is_one_source_and_sink() {
    expect![[r#"
        [1] Source(bid)
            columns: auction BIGINT, bidder BIGINT, price BIGINT, ts TIMESTAMP(3), extra STRING
            watermark: (ts - INTERVAL '4.000000000 SECS')
            read: unbounded
            state: offsets and watermark of each split
        [2] Sink(print)
            from [1] forward
            columns: auction BIGINT, bidder BIGINT, price BIGINT, ts TIMESTAMP(3), extra STRING
            connector: print
            state: what is staged and not yet committed
    "#]]
    .assert_eq(&graph(
        r#"
SELECT auction, bidder, price, ts, extra FROM bid
"#,
    ));
}

#[test]
fn q1_multiplies_a_decimal_literal() {
    expect![[r#"
        [1] Source(bid)
            columns: auction BIGINT, bidder BIGINT, price BIGINT, ts TIMESTAMP(3), extra STRING
            watermark: (ts - INTERVAL '4.000000000 SECS')
            read: unbounded
            state: offsets and watermark of each split
        [2] Calc
            from [1] forward
            project: auction, bidder, (0.908 * CAST(price AS DECIMAL(20,0))) AS price, ts, extra
        [3] Sink(print)
            from [2] forward
            columns: auction BIGINT, bidder BIGINT, price DECIMAL(24, 3), ts TIMESTAMP(3), extra STRING
            connector: print
            state: what is staged and not yet committed
    "#]]
    .assert_eq(&graph(
        r#"
SELECT auction, bidder, 0.908 * price AS price, ts, extra FROM bid
"#,
    ));
}

#[test]
fn q2_filters() {
    expect![[r#"
        [1] Source(bid)
            columns: auction BIGINT, price BIGINT, ts TIMESTAMP(3)
            watermark: (ts - INTERVAL '4.000000000 SECS')
            read: unbounded
            state: offsets and watermark of each split
        [2] Calc
            from [1] forward
            filter: ((auction % 123) = 0)
            project: auction, price
        [3] Sink(print)
            from [2] forward
            columns: auction BIGINT, price BIGINT
            connector: print
            state: what is staged and not yet committed
    "#]]
    .assert_eq(&graph(
        r#"
SELECT auction, price FROM bid WHERE auction % 123 = 0
"#,
    ));
}

#[test]
fn q5_shares_the_hop_and_windows_again() {
    expect![[r#"
        [1] Source(bid)
            columns: auction BIGINT, ts TIMESTAMP(3)
            watermark: (ts - INTERVAL '4.000000000 SECS')
            read: unbounded
            state: offsets and watermark of each split
        [2] WindowAggregate(HOP 10s/2s)
            from [1] hash(auction)
            time: event
            keys: auction
            aggregates: count(*) AS count
            fires: complete, 8000 ms after the end of the window
            state: 1 accumulators per key and open window
        [3] WindowAggregate(by HOP 10s/2s window)
            from [2] hash(window_start, window_end)
            time: event
            keys: 
            aggregates: max("count") AS max
            state: 1 accumulators per key and open window
        [4] Calc
            from [2] forward
            project: auction, window_start AS ws, window_end AS we, "count" AS n
        [5] Calc
            from [3] forward
            project: window_start AS ws_1, window_end AS we_1, "max" AS top
        [6] WindowJoin(Inner, HOP 10s/2s)
            left from [4] hash(ws, we)
            right from [5] hash(ws_1, we_1)
            time: event
            filter: (n >= "top")
            state: rows of both sides per key and open window
        [7] Calc
            from [6] forward
            project: auction, n
        [8] Sink(print)
            from [7] forward
            columns: auction BIGINT, n BIGINT NOT NULL
            connector: print
            state: what is staged and not yet committed
    "#]].assert_eq(&graph(
        r#"
SELECT c.auction, c.n
FROM (SELECT auction, window_start AS ws, window_end AS we, COUNT(*) AS n
      FROM TABLE(HOP(TABLE bid, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '10' SECOND)) GROUP BY auction, window_start, window_end) c
JOIN (SELECT ws, we, MAX(n) AS top
      FROM (SELECT auction, window_start AS ws, window_end AS we, COUNT(*) AS n
            FROM TABLE(HOP(TABLE bid, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '10' SECOND)) GROUP BY auction, window_start, window_end)
      GROUP BY ws, we) m
ON c.ws = m.ws AND c.we = m.we AND c.n >= m.top
"#,
    ));
}

#[test]
fn q8_joins_two_windows() {
    expect![[r#"
        [1] Source(person)
            columns: id BIGINT, name STRING, ts TIMESTAMP(3)
            watermark: (ts - INTERVAL '4.000000000 SECS')
            read: unbounded
            state: offsets and watermark of each split
        [2] WindowAggregate(TUMBLE 10s)
            from [1] hash(id, name)
            time: event
            keys: id, name
            aggregates: 
            state: 1 accumulators per key and open window
        [3] Source(auction)
            columns: ts TIMESTAMP(3), seller BIGINT
            watermark: (ts - INTERVAL '4.000000000 SECS')
            read: unbounded
            state: offsets and watermark of each split
        [4] WindowAggregate(TUMBLE 10s)
            from [3] hash(seller)
            time: event
            keys: seller
            aggregates: 
            state: 1 accumulators per key and open window
        [5] Calc
            from [4] forward
            project: seller, window_start AS window_start_1, window_end AS window_end_1
        [6] WindowJoin(Inner, TUMBLE 10s)
            left from [2] hash(id)
            right from [5] hash(seller)
            time: event
            state: rows of both sides per key and open window
        [7] Calc
            from [6] forward
            project: id, "name" AS name, window_start AS ws
        [8] Sink(print)
            from [7] forward
            columns: id BIGINT, name STRING, ws TIMESTAMP(3) NOT NULL
            connector: print
            state: what is staged and not yet committed
    "#]]
    .assert_eq(&graph(
        r#"
SELECT p.id, p.name, p.ws
FROM (SELECT id, name, window_start AS ws, window_end AS we
      FROM TABLE(TUMBLE(TABLE person, DESCRIPTOR(ts), INTERVAL '10' SECOND))
      GROUP BY id, name, window_start, window_end) p
JOIN (SELECT seller, window_start AS ws, window_end AS we
      FROM TABLE(TUMBLE(TABLE auction, DESCRIPTOR(ts), INTERVAL '10' SECOND))
      GROUP BY seller, window_start, window_end) a
ON p.id = a.seller AND p.ws = a.ws AND p.we = a.we
"#,
    ));
}

#[test]
fn q11_session_by_key() {
    expect![[r#"
        [1] Source(bid)
            columns: bidder BIGINT, ts TIMESTAMP(3)
            watermark: (ts - INTERVAL '4.000000000 SECS')
            read: unbounded
            state: offsets and watermark of each split
        [2] WindowAggregate(SESSION 10s)
            from [1] hash(bidder)
            time: event
            keys: bidder
            aggregates: count(*) AS count
            state: 1 accumulators per key and open window
        [3] Calc
            from [2] forward
            project: bidder, "count" AS n, window_start AS ws, window_end AS we
        [4] Sink(print)
            from [3] forward
            columns: bidder BIGINT, n BIGINT NOT NULL, ws TIMESTAMP(3) NOT NULL, we TIMESTAMP(3) NOT NULL
            connector: print
            state: what is staged and not yet committed
    "#]]
    .assert_eq(&graph(
        r#"
SELECT bidder, COUNT(*) AS n, window_start AS ws, window_end AS we
FROM TABLE(SESSION(TABLE bid PARTITION BY bidder, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY bidder, window_start, window_end
"#,
    ));
}

#[test]
fn q12_processing_time() {
    expect![[r#"
        [1] Source(bid)
            columns: bidder BIGINT, ts TIMESTAMP(3)
            watermark: (ts - INTERVAL '4.000000000 SECS')
            read: unbounded
            state: offsets and watermark of each split
        [2] Calc
            from [1] forward
            project: bidder, proctime() AS p_time
            not deterministic: proctime()
        [3] WindowAggregate(TUMBLE 10s)
            from [2] hash(bidder)
            time: processing
            keys: bidder
            aggregates: count(*) AS count
            state: 1 accumulators per key and open window
            not deterministic: processing time
        [4] Calc
            from [3] forward
            project: bidder, "count" AS n, window_start AS ws, window_end AS we
        [5] Sink(print)
            from [4] forward
            columns: bidder BIGINT, n BIGINT NOT NULL, ws TIMESTAMP(3) NOT NULL, we TIMESTAMP(3) NOT NULL
            connector: print
            state: what is staged and not yet committed
    "#]]
    .assert_eq(&graph(
        r#"
SELECT bidder, COUNT(*) AS n, window_start AS ws, window_end AS we
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(p_time), INTERVAL '10' SECOND))
GROUP BY bidder, window_start, window_end
"#,
    ));
}

#[test]
fn averages_and_sums_have_flink_types() {
    expect![[r#"
        [1] Source(flights)
            columns: tailnum STRING, origin STRING, dep_delay DOUBLE, arr_delay INT, distance INT, time_hour TIMESTAMP(3)
            watermark: (time_hour - INTERVAL '24 HOURS')
            read: bounded
            state: offsets and watermark of each split
        [2] WindowAggregate(TUMBLE 1h)
            from [1] hash(origin)
            time: event
            keys: origin
            aggregates: sum(CAST(arr_delay AS BIGINT)) AS sum, count(arr_delay) AS count, avg(dep_delay) AS avg, sum(CAST(distance AS BIGINT)) AS sum_1, count(DISTINCT tailnum) AS count_1, count(*) AS count_2
            state: 6 accumulators per key and open window
            not deterministic: avg of floats depends on their order in the last digits
        [3] Calc
            from [2] forward
            filter: (count_2 > 3)
            project: origin, CAST(("sum" / "count") AS INTEGER) AS a, "avg" AS d, CAST(sum_1 AS INTEGER) AS s, count_1 AS count(DISTINCT flights.tailnum)
        [4] Sink(print)
            from [3] forward
            columns: origin STRING, a INT, d DOUBLE, s INT, count(DISTINCT flights.tailnum) BIGINT NOT NULL
            connector: print
            state: what is staged and not yet committed
    "#]].assert_eq(&graph(
        r#"
SELECT origin, AVG(arr_delay) AS a, AVG(dep_delay) AS d, SUM(distance) s, COUNT(DISTINCT tailnum) FROM TABLE(TUMBLE(TABLE flights, DESCRIPTOR(time_hour), INTERVAL '1' HOUR)) GROUP BY window_start, window_end, origin HAVING COUNT(*) > 3
"#,
    ));
}

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
fn top_n_in_a_window() {
    expect![[r#"
        [1] Source(flights)
            columns: carrier STRING, flight INT, tailnum STRING, origin STRING, dest STRING, dep_delay DOUBLE, arr_delay INT, distance INT, time_hour TIMESTAMP(3)
            watermark: (time_hour - INTERVAL '24 HOURS')
            read: bounded
            state: offsets and watermark of each split
        [2] AssignWindow(TUMBLE 1h)
            from [1] forward
            time: event
        [3] Calc
            from [2] forward
            project: carrier, flight, tailnum, origin, dest, dep_delay, arr_delay, distance, time_hour, proctime() AS proctime, window_start, window_end, window_time
            not deterministic: proctime()
        [4] WindowTopN(3)
            from [3] hash(origin, window_start, window_end)
            time: event
            order: arr_delay DESC NULLS LAST
            rows: 1 to 3
            state: 3 rows per partition and open window
            not deterministic: ties are kept in the order of arrival
        [5] Calc
            from [4] forward
            project: carrier, flight, tailnum, origin, dest, dep_delay, arr_delay, distance, time_hour, proctime, window_start, window_end, window_time, "row_number" AS rn
        [6] Sink(print)
            from [5] forward
            columns: carrier STRING, flight INT, tailnum STRING, origin STRING, dest STRING, dep_delay DOUBLE, arr_delay INT, distance INT, time_hour TIMESTAMP(3), proctime TIMESTAMP(3), window_start TIMESTAMP(3) NOT NULL, window_end TIMESTAMP(3) NOT NULL, window_time TIMESTAMP(3) NOT NULL, rn BIGINT NOT NULL
            connector: print
            state: what is staged and not yet committed
    "#]].assert_eq(&graph(
        r#"
SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end, origin ORDER BY arr_delay DESC) AS rn FROM TABLE(TUMBLE(TABLE flights, DESCRIPTOR(time_hour), INTERVAL '1' HOUR))) WHERE rn <= 3
"#,
    ));
}

#[test]
fn unnest_of_a_list() {
    expect![[r#"
        [1] Source(events)
            columns: id BIGINT, tags ARRAY<STRING>
            read: unbounded
            state: offsets and watermark of each split
        [2] Unnest
            from [1] forward
            unnest: column 2
            columns: id BIGINT, t STRING
        [3] Sink(print)
            from [2] forward
            columns: id BIGINT, t STRING
            connector: print
            state: what is staged and not yet committed
    "#]]
    .assert_eq(&graph(
        r#"
SELECT id, t FROM events CROSS JOIN UNNEST(tags) AS x (t)
"#,
    ));
}

#[test]
fn unnest_of_rows() {
    expect![[r#"
        [1] Source(events)
            columns: id BIGINT, items ARRAY<ROW<sku STRING, n INT>>
            read: unbounded
            state: offsets and watermark of each split
        [2] Unnest
            from [1] forward
            unnest: column 2
            columns: id BIGINT, sku STRING, n INT
        [3] Calc
            from [2] forward
            filter: (n > 1)
            project: id, sku, n
        [4] Sink(print)
            from [3] forward
            columns: id BIGINT, sku STRING, n INT
            connector: print
            state: what is staged and not yet committed
    "#]]
    .assert_eq(&graph(
        r#"
SELECT e.id, x.sku, x.n FROM events e CROSS JOIN UNNEST(e.items) AS x (sku, n) WHERE x.n > 1
"#,
    ));
}

#[test]
fn unnest_of_a_map_keeps_rows() {
    expect![[r#"
        [1] Source(events)
            columns: id BIGINT, props MAP<STRING, STRING>
            read: unbounded
            state: offsets and watermark of each split
        [2] Unnest
            from [1] forward
            unnest: column 2, outer
            columns: id BIGINT, k STRING, v STRING
        [3] Sink(print)
            from [2] forward
            columns: id BIGINT, k STRING, v STRING
            connector: print
            state: what is staged and not yet committed
    "#]]
    .assert_eq(&graph(
        r#"
SELECT e.id, k, v FROM events e LEFT JOIN UNNEST(props) AS p (k, v) ON TRUE
"#,
    ));
}

#[test]
fn unnest_in_select() {
    expect![[r#"
        [1] Source(events)
            columns: id BIGINT, tags ARRAY<STRING>
            read: unbounded
            state: offsets and watermark of each split
        [2] Unnest
            from [1] forward
            unnest: column 2
            columns: id BIGINT, tags STRING
        [3] Calc
            from [2] forward
            project: id, tags AS tag
        [4] Sink(print)
            from [3] forward
            columns: id BIGINT, tag STRING
            connector: print
            state: what is staged and not yet committed
    "#]]
    .assert_eq(&graph(
        r#"
SELECT id, UNNEST(tags) AS tag FROM events
"#,
    ));
}

#[test]
fn union_all() {
    expect![[r#"
        [1] Source(bid)
            columns: auction BIGINT, ts TIMESTAMP(3)
            watermark: (ts - INTERVAL '4.000000000 SECS')
            read: unbounded
            state: offsets and watermark of each split
        [2] Calc
            from [1] forward
            project: auction
        [3] Source(auction)
            columns: id BIGINT, ts TIMESTAMP(3)
            watermark: (ts - INTERVAL '4.000000000 SECS')
            read: unbounded
            state: offsets and watermark of each split
        [4] Calc
            from [3] forward
            project: id AS auction
        [5] Sink(print)
            from [2] forward
            from [4] forward
            columns: auction BIGINT
            connector: print
            state: what is staged and not yet committed
    "#]]
    .assert_eq(&graph(
        r#"
SELECT auction FROM bid UNION ALL SELECT id FROM auction
"#,
    ));
}

#[test]
fn distinct_in_a_window() {
    expect![[r#"
        [1] Source(flights)
            columns: origin STRING, time_hour TIMESTAMP(3)
            watermark: (time_hour - INTERVAL '24 HOURS')
            read: bounded
            state: offsets and watermark of each split
        [2] WindowAggregate(TUMBLE 1h)
            from [1] hash(origin)
            time: event
            keys: origin
            aggregates: 
            state: 1 accumulators per key and open window
        [3] Calc
            from [2] forward
            project: window_start, window_end, origin
        [4] Sink(print)
            from [3] forward
            columns: window_start TIMESTAMP(3) NOT NULL, window_end TIMESTAMP(3) NOT NULL, origin STRING
            connector: print
            state: what is staged and not yet committed
    "#]].assert_eq(&graph(
        r#"
SELECT DISTINCT window_start, window_end, origin FROM TABLE(TUMBLE(TABLE flights, DESCRIPTOR(time_hour), INTERVAL '1' HOUR))
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
fn q14_case_and_hours() {
    expect![[r#"
        [1] Source(bid)
            columns: auction BIGINT, bidder BIGINT, price BIGINT, ts TIMESTAMP(3), extra STRING
            watermark: (ts - INTERVAL '4.000000000 SECS')
            read: unbounded
            state: offsets and watermark of each split
        [2] Calc
            from [1] forward
            filter: (((0.908 * CAST(price AS DECIMAL(20,0))) > 1000000.000) AND ((0.908 * CAST(price AS DECIMAL(20,0))) < 50000000.000))
            project: auction, bidder, (0.908 * CAST(price AS DECIMAL(20,0))) AS price, CASE WHEN ((hour(ts) >= 8) AND (hour(ts) <= 18)) THEN 'dayTime' WHEN ((hour(ts) <= 6) OR (hour(ts) >= 20)) THEN 'nightTime' ELSE 'otherTime' END AS kind, ts, extra, (char_length(extra) - char_length(replace(extra, 'c', ''))) AS c_count
        [3] Sink(print)
            from [2] forward
            columns: auction BIGINT, bidder BIGINT, price DECIMAL(24, 3), kind STRING NOT NULL, ts TIMESTAMP(3), extra STRING, c_count INT
            connector: print
            state: what is staged and not yet committed
    "#]].assert_eq(&graph(
        r#"
SELECT auction, bidder, 0.908 * price AS price,
  CASE WHEN HOUR(ts) BETWEEN 8 AND 18 THEN 'dayTime'
       WHEN HOUR(ts) <= 6 OR HOUR(ts) >= 20 THEN 'nightTime' ELSE 'otherTime' END AS kind,
  ts, extra, CHAR_LENGTH(extra) - CHAR_LENGTH(REPLACE(extra, 'c', '')) AS c_count
FROM bid WHERE 0.908 * price > 1000000 AND 0.908 * price < 50000000
"#,
    ));
}

#[test]
fn q21_regular_expressions() {
    expect![[r#"
        [1] Source(bid)
            columns: auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, ts TIMESTAMP(3)
            watermark: (ts - INTERVAL '4.000000000 SECS')
            read: unbounded
            state: offsets and watermark of each split
        [2] Calc
            from [1] forward
            filter: (regexp_extract("url", '(&|^)channel_id=([^&]*)', 2) IS NOT NULL OR lower("channel") IN ('apple', 'google', 'facebook', 'baidu'))
            project: auction, bidder, price, "channel" AS channel, CASE lower("channel") WHEN 'apple' THEN '0' WHEN 'google' THEN '1' WHEN 'facebook' THEN '2' WHEN 'baidu' THEN '3' ELSE regexp_extract("url", '(&|^)channel_id=([^&]*)', 2) END AS channel_id
        [3] Sink(print)
            from [2] forward
            columns: auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, channel_id STRING
            connector: print
            state: what is staged and not yet committed
    "#]].assert_eq(&graph(
        r#"
SELECT auction, bidder, price, channel,
  CASE LOWER(channel) WHEN 'apple' THEN '0' WHEN 'google' THEN '1' WHEN 'facebook' THEN '2'
       WHEN 'baidu' THEN '3' ELSE REGEXP_EXTRACT(url, '(&|^)channel_id=([^&]*)', 2) END AS channel_id
FROM bid
WHERE REGEXP_EXTRACT(url, '(&|^)channel_id=([^&]*)', 2) IS NOT NULL
   OR LOWER(channel) IN ('apple', 'google', 'facebook', 'baidu')
"#,
    ));
}

#[test]
fn q22_splits() {
    expect![[r#"
        [1] Source(bid)
            columns: auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, ts TIMESTAMP(3)
            watermark: (ts - INTERVAL '4.000000000 SECS')
            read: unbounded
            state: offsets and watermark of each split
        [2] Calc
            from [1] forward
            project: auction, bidder, price, "channel" AS channel, split_index("url", '/', 3) AS dir1, split_index("url", '/', 4) AS dir2, split_index("url", '/', 5) AS dir3
        [3] Sink(print)
            from [2] forward
            columns: auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, dir1 STRING, dir2 STRING, dir3 STRING
            connector: print
            state: what is staged and not yet committed
    "#]].assert_eq(&graph(
        r#"
SELECT auction, bidder, price, channel, SPLIT_INDEX(url, '/', 3) AS dir1,
  SPLIT_INDEX(url, '/', 4) AS dir2, SPLIT_INDEX(url, '/', 5) AS dir3 FROM bid
"#,
    ));
}

#[test]
fn q7_as_a_window_join() {
    expect![[r#"
        [1] Source(bid)
            columns: auction BIGINT, bidder BIGINT, price BIGINT, ts TIMESTAMP(3)
            watermark: (ts - INTERVAL '4.000000000 SECS')
            read: unbounded
            state: offsets and watermark of each split
        [2] WindowAggregate(TUMBLE 10s)
            from [1] single
            time: event
            keys: 
            aggregates: max(price) AS max
            state: 1 accumulators per key and open window
        [3] AssignWindow(TUMBLE 10s)
            from [1] forward
            time: event
        [4] Calc
            from [3] forward
            project: auction, bidder, price, window_start, window_end
        [5] Calc
            from [2] forward
            project: "max" AS max, window_start AS window_start_1, window_end AS window_end_1
        [6] WindowJoin(Inner, TUMBLE 10s)
            left from [4] hash(price)
            right from [5] hash(max)
            time: event
            state: rows of both sides per key and open window
        [7] Calc
            from [6] forward
            project: auction, price, bidder
        [8] Sink(print)
            from [7] forward
            columns: auction BIGINT, price BIGINT, bidder BIGINT
            connector: print
            state: what is staged and not yet committed
    "#]]
    .assert_eq(&graph(
        r#"
SELECT b.auction, b.price, b.bidder
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' SECOND)) b
JOIN (SELECT MAX(price) AS top, window_start, window_end
      FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' SECOND))
      GROUP BY window_start, window_end) w
ON b.window_start = w.window_start AND b.window_end = w.window_end AND b.price = w.top
"#,
    ));
}

#[test]
fn bare_window_function_assigns() {
    expect![[r#"
        [1] Source(flights)
            columns: origin STRING, time_hour TIMESTAMP(3)
            watermark: (time_hour - INTERVAL '24 HOURS')
            read: bounded
            state: offsets and watermark of each split
        [2] AssignWindow(CUMULATE 1d/1h)
            from [1] forward
            time: event
            fires: complete, at the end of the longest window
        [3] Calc
            from [2] forward
            filter: (origin = 'JFK')
            project: origin, window_start, window_time
        [4] Sink(print)
            from [3] forward
            columns: origin STRING, window_start TIMESTAMP(3) NOT NULL, window_time TIMESTAMP(3) NOT NULL
            connector: print
            state: what is staged and not yet committed
    "#]].assert_eq(&graph(
        r#"
SELECT origin, window_start, window_time FROM TABLE(CUMULATE(TABLE flights, DESCRIPTOR(time_hour), INTERVAL '1' HOUR, INTERVAL '1' DAY)) WHERE origin = 'JFK'
"#,
    ));
}

#[test]
fn cascade_over_window_time() {
    expect![[r#"
        [1] Source(bid)
            columns: ts TIMESTAMP(3)
            watermark: (ts - INTERVAL '4.000000000 SECS')
            read: unbounded
            state: offsets and watermark of each split
        [2] WindowAggregate(TUMBLE 1min)
            from [1] single
            time: event
            keys: 
            aggregates: count(*) AS count
            state: 1 accumulators per key and open window
        [3] WindowAggregate(TUMBLE 1h)
            from [2] single
            time: event
            keys: 
            aggregates: sum("count") AS sum
            state: 1 accumulators per key and open window
        [4] Calc
            from [3] forward
            project: window_start, window_end, "sum" AS n
        [5] Sink(print)
            from [4] forward
            columns: window_start TIMESTAMP(3) NOT NULL, window_end TIMESTAMP(3) NOT NULL, n BIGINT
            connector: print
            state: what is staged and not yet committed
    "#]]
    .assert_eq(&graph(
        r#"
SELECT window_start, window_end, SUM(n) AS n FROM TABLE(TUMBLE(
  (SELECT window_time AS rowtime, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
   GROUP BY window_start, window_end, window_time), DESCRIPTOR(rowtime), INTERVAL '1' HOUR))
GROUP BY window_start, window_end
"#,
    ));
}

#[test]
fn a_filter_above_a_session_stays_above() {
    expect![[r#"
        [1] Source(bid)
            columns: bidder BIGINT, price BIGINT, ts TIMESTAMP(3)
            watermark: (ts - INTERVAL '4.000000000 SECS')
            read: unbounded
            state: offsets and watermark of each split
        [2] AssignWindow(SESSION 10s)
            from [1] hash(bidder)
            time: event
            state: rows of open sessions
        [3] Calc
            from [2] forward
            filter: (price > 100)
            project: bidder, window_end, window_start
        [4] WindowAggregate(by SESSION 10s window)
            from [3] hash(bidder)
            time: event
            keys: bidder
            aggregates: count(*) AS count
            state: 1 accumulators per key and open window
        [5] Calc
            from [4] forward
            project: bidder, "count" AS n, window_end
        [6] Sink(print)
            from [5] forward
            columns: bidder BIGINT, n BIGINT NOT NULL, window_end TIMESTAMP(3) NOT NULL
            connector: print
            state: what is staged and not yet committed
    "#]]
    .assert_eq(&graph(
        r#"
SELECT bidder, COUNT(*) AS n, window_end
FROM TABLE(SESSION(TABLE bid PARTITION BY bidder, DESCRIPTOR(ts), INTERVAL '10' SECOND)) WHERE price > 100
GROUP BY bidder, window_start, window_end
"#,
    ));
}

#[test]
fn aggregates_of_every_kind() {
    expect![[r#"
        [1] Source(bid)
            columns: bidder BIGINT, price BIGINT, channel STRING, ts TIMESTAMP(3)
            watermark: (ts - INTERVAL '4.000000000 SECS')
            read: unbounded
            state: offsets and watermark of each split
        [2] WindowAggregate(TUMBLE 10s)
            from [1] single
            time: event
            keys: 
            aggregates: count(*) FILTER ((price > 10)) AS count, count(DISTINCT bidder) AS count_1, stddev(CAST(price AS DOUBLE)) AS stddev, approx_distinct(bidder) AS approx_distinct, string_agg("channel", ',') AS string_agg, array_agg("channel") ORDER BY price DESC NULLS LAST AS array_agg, bool_and((price > 0)) AS bool_and, max(price) AS max, min(price) AS min
            state: 9 accumulators per key and open window
            not deterministic: stddev of floats depends on their order in the last digits
        [3] Calc
            from [2] forward
            project: window_start, window_end, "count" AS c, count_1 AS d, stddev AS s, CAST(approx_distinct AS BIGINT) AS a, string_agg AS l, array_agg AS g, bool_and AS b, ("max" - "min") AS spread
        [4] Sink(print)
            from [3] forward
            columns: window_start TIMESTAMP(3) NOT NULL, window_end TIMESTAMP(3) NOT NULL, c BIGINT NOT NULL, d BIGINT NOT NULL, s DOUBLE, a BIGINT NOT NULL, l STRING, g ARRAY<STRING>, b BOOLEAN, spread BIGINT
            connector: print
            state: what is staged and not yet committed
    "#]].assert_eq(&graph(
        r#"
SELECT window_start, window_end, COUNT(*) FILTER (WHERE price > 10) AS c, COUNT(DISTINCT bidder) AS d,
  STDDEV(price) AS s, APPROX_DISTINCT(bidder) AS a, LISTAGG(channel, ',') AS l, ARRAY_AGG(channel ORDER BY price DESC) AS g,
  BOOL_AND(price > 0) AS b, MAX(price) - MIN(price) AS spread
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end
"#,
    ));
}

#[test]
fn first_row_of_each_window_and_key() {
    expect![[r#"
        [1] Source(flights)
            columns: flight INT, origin STRING, dep_delay DOUBLE, time_hour TIMESTAMP(3)
            watermark: (time_hour - INTERVAL '24 HOURS')
            read: bounded
            state: offsets and watermark of each split
        [2] AssignWindow(TUMBLE 1h)
            from [1] forward
            time: event
        [3] Calc
            from [2] forward
            project: flight, origin, dep_delay, window_start, window_end
        [4] WindowTopN(1)
            from [3] hash(origin, window_start, window_end)
            time: event
            order: dep_delay ASC NULLS FIRST
            rows: 1 to 1
            state: 1 rows per partition and open window
            not deterministic: ties are kept in the order of arrival
        [5] Calc
            from [4] forward
            filter: (flight > 10)
            project: origin, flight
        [6] Sink(print)
            from [5] forward
            columns: origin STRING, flight INT
            connector: print
            state: what is staged and not yet committed
    "#]]
    .assert_eq(&graph(
        r#"
SELECT origin, flight FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end, origin ORDER BY dep_delay) AS rn
  FROM TABLE(TUMBLE(TABLE flights, DESCRIPTOR(time_hour), INTERVAL '1' HOUR)))
WHERE rn = 1 AND flight > 10
"#,
    ));
}

#[test]
fn ranks_between_bounds() {
    expect![[r#"
        [1] Source(flights)
            columns: origin STRING, time_hour TIMESTAMP(3)
            watermark: (time_hour - INTERVAL '24 HOURS')
            read: bounded
            state: offsets and watermark of each split
        [2] WindowAggregate(TUMBLE 1h)
            from [1] hash(origin)
            time: event
            keys: origin
            aggregates: count(*) AS count
            state: 1 accumulators per key and open window
        [3] Calc
            from [2] forward
            project: origin, window_start, window_end, "count" AS n
        [4] WindowTopN(4)
            from [3] hash(window_start, window_end)
            time: event
            order: n DESC NULLS LAST
            rows: 2 to 4
            state: 4 rows per partition and open window
            not deterministic: ties are kept in the order of arrival
        [5] Calc
            from [4] forward
            project: origin, "row_number" AS rn
        [6] Sink(print)
            from [5] forward
            columns: origin STRING, rn BIGINT NOT NULL
            connector: print
            state: what is staged and not yet committed
    "#]]
    .assert_eq(&graph(
        r#"
SELECT origin, rn FROM (
  SELECT origin, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY n DESC) AS rn
  FROM (SELECT origin, window_start, window_end, COUNT(*) AS n
        FROM TABLE(TUMBLE(TABLE flights, DESCRIPTOR(time_hour), INTERVAL '1' HOUR))
        GROUP BY origin, window_start, window_end))
WHERE rn BETWEEN 2 AND 4
"#,
    ));
}

#[test]
fn computed_and_metadata_columns() {
    expect![[r#"
        [1] Source(raw)
            columns: at STRING, offset BIGINT, file STRING
            watermark: (to_timestamp("at") - INTERVAL '1 MINS')
            read: unbounded
            state: offsets and watermark of each split
        [2] Calc
            from [1] forward
            project: "offset" AS offset, "file" AS file, to_timestamp("at") AS ts
        [3] WindowAggregate(TUMBLE 1min)
            from [2] hash(file)
            time: event
            keys: file
            aggregates: max("offset") AS max
            state: 1 accumulators per key and open window
        [4] Calc
            from [3] forward
            project: window_start, window_end, "file" AS file, "max" AS last
        [5] Sink(print)
            from [4] forward
            columns: window_start TIMESTAMP(3) NOT NULL, window_end TIMESTAMP(3) NOT NULL, file STRING, last BIGINT
            connector: print
            state: what is staged and not yet committed
    "#]]
    .assert_eq(&graph(
        r#"
CREATE TABLE raw (id BIGINT, at STRING, `offset` BIGINT METADATA VIRTUAL, file STRING METADATA FROM 'origin' VIRTUAL,
  ts AS TO_TIMESTAMP(at), WATERMARK FOR ts AS ts - INTERVAL '1' MINUTE)
  WITH ('connector' = 'log', 'topic' = 'raw', 'format' = 'json');
SELECT window_start, window_end, file, MAX(`offset`) AS last
FROM TABLE(TUMBLE(TABLE raw, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end, file
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
fn values() {
    expect![[r#"
        [1] Source(values_ac8c8d1b99ea0254)
            columns: column1 INT, column2 STRING
            read: bounded
            state: offsets and watermark of each split
        [2] Calc
            from [1] forward
            filter: (column1 > 1)
            project: column1 AS a, column2 AS b
        [3] Sink(print)
            from [2] forward
            columns: a INT, b STRING
            connector: print
            state: what is staged and not yet committed
    "#]]
    .assert_eq(&graph("SELECT a, b FROM (VALUES (1, 'x'), (2, NULL)) AS t (a, b) WHERE a > 1"));
}

#[test]
fn select_without_from() {
    expect![[r#"
        [1] Source(values_494463d8335ff76a)
            columns: row_number BIGINT NOT NULL
            read: bounded
            state: offsets and watermark of each split
        [2] Calc
            from [1] forward
            project: 2 AS two, (now() > CAST('2020-01-01T00:00:00+00:00' AS TIMESTAMP)) AS late
            not deterministic: now()
        [3] Sink(print)
            from [2] forward
            columns: two BIGINT NOT NULL, late BOOLEAN
            connector: print
            state: what is staged and not yet committed
    "#]]
    .assert_eq(&graph("SELECT 1 + 1 AS two, NOW() > TIMESTAMP '2020-01-01 00:00:00' AS late"));
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
fn aggregates_that_differ_by_a_cast() {
    expect![[r#"
        [1] Source(flights)
            columns: distance INT, time_hour TIMESTAMP(3)
            watermark: (time_hour - INTERVAL '24 HOURS')
            read: bounded
            state: offsets and watermark of each split
        [2] WindowAggregate(TUMBLE 1h)
            from [1] single
            time: event
            keys: 
            aggregates: sum(CAST(distance AS BIGINT)) AS sum, sum(CAST(distance AS BIGINT)) AS sum_1, count(distance) AS count, avg(CAST(distance AS DOUBLE)) AS avg
            state: 4 accumulators per key and open window
            not deterministic: avg of floats depends on their order in the last digits
        [3] Calc
            from [2] forward
            project: CAST("sum" AS INTEGER) AS a, sum_1 AS b, CAST(("sum" / "count") AS INTEGER) AS c, "avg" AS d
        [4] Sink(print)
            from [3] forward
            columns: a INT, b BIGINT, c INT, d DOUBLE
            connector: print
            state: what is staged and not yet committed
    "#]].assert_eq(&graph(
        "SELECT SUM(distance) AS a, SUM(CAST(distance AS BIGINT)) AS b, AVG(distance) AS c, AVG(CAST(distance AS DOUBLE)) AS d
         FROM TABLE(TUMBLE(TABLE flights, DESCRIPTOR(time_hour), INTERVAL '1' HOUR)) GROUP BY window_start, window_end",
    ));
}
