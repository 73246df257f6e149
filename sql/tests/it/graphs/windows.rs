//! Aggregations over windows, and what follows them.

use crate::catalog::graph;
use expect_test::expect;

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

#[test]
fn aggregates_over_the_rows_before() {
    expect![[r#"
        [1] Source(flights)
            columns: origin STRING, distance INT, time_hour TIMESTAMP(3)
            watermark: (time_hour - INTERVAL '24 HOURS')
            read: bounded
            state: offsets and watermark of each split
        [2] OverAggregate
            from [1] hash(origin)
            keys: origin
            order: time_hour
            frame: 1h before, and rows of the same time
            aggregates: sum(CAST(distance AS BIGINT)) AS sum, count(distance) AS count
            state: rows of 1h per key
        [3] OverAggregate
            from [2] hash(origin)
            keys: origin
            order: time_hour
            frame: 9 rows before
            aggregates: count(*) AS count_1
            state: 10 rows per key, for as long as the job lives
            not deterministic: rows of the same time stand in the order of arrival
        [4] Calc
            from [3] forward
            project: origin, CAST(("sum" / "count") AS INTEGER) AS avg(flights.distance) PARTITION BY [flights.origin] ORDER BY [flights.time_hour ASC NULLS FIRST] RANGE BETWEEN 3600000 milliseconds PRECEDING AND CURRENT ROW, count_1 AS count(*) PARTITION BY [flights.origin] ORDER BY [flights.time_hour ASC NULLS FIRST] ROWS BETWEEN 9 PRECEDING AND CURRENT ROW
        [5] Sink(print)
            from [4] forward
            columns: origin STRING, avg(flights.distance) PARTITION BY [flights.origin] ORDER BY [flights.time_hour ASC NULLS FIRST] RANGE BETWEEN 3600000 milliseconds PRECEDING AND CURRENT ROW INT, count(*) PARTITION BY [flights.origin] ORDER BY [flights.time_hour ASC NULLS FIRST] ROWS BETWEEN 9 PRECEDING AND CURRENT ROW BIGINT NOT NULL
            connector: print
            state: what is staged and not yet committed
    "#]].assert_eq(&graph(
        r#"SELECT origin, AVG(distance) OVER w, COUNT(*) OVER (PARTITION BY origin ORDER BY time_hour ROWS BETWEEN 9 PRECEDING AND CURRENT ROW) FROM flights WINDOW w AS (PARTITION BY origin ORDER BY time_hour RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW)"#,
    ));
}
