//! Queries of the Nexmark benchmark.

use crate::catalog::graph;
use expect_test::expect;

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
