//! What tables and lists of rows become.

use crate::catalog::graph;
use expect_test::expect;

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
fn members_of_rows_that_no_query_reads() {
    expect![[r#"
        [1] Source(made)
            columns: kind INT, a ROW<x INT, y STRING, z ROW<p INT, q INT>>, b ROW<x INT, at TIMESTAMP(3), name STRING>, c ROW<x INT, y INT>
            not read: a.y, b.x, b.name, c.x
            watermark: (b."at" - INTERVAL '1.000000000 SECS')
            read: bounded
            state: offsets and watermark of each split
        [2] Calc
            from [1] forward
            filter: (((kind = 1) AND (c.y > 0)) AND (a.x > 1))
            project: a.x AS x, a.z.p AS p
        [3] Sink(o)
            from [2] forward
            columns: x INT, p INT
            connector: blackhole
            state: what is staged and not yet committed
    "#]]
    .assert_eq(&graph(
        r#"
CREATE TABLE made (
  kind INT,
  a ROW<x INT, y STRING, z ROW<p INT, q INT>>,
  b ROW<x INT, at TIMESTAMP(3), name STRING>,
  c ROW<x INT, y INT>,
  at AS b.at,
  WATERMARK FOR at AS at - INTERVAL '1' SECOND
) WITH ('connector' = 'filesystem', 'path' = 'made', 'format' = 'json');
CREATE VIEW first AS SELECT a.x, a.z, at FROM made WHERE kind = 1 AND c.y > 0;
CREATE TABLE o (x INT, p INT) WITH ('connector' = 'blackhole');
INSERT INTO o SELECT x, z.p FROM first AS f WHERE f.x > 1;
"#,
    ));
}
