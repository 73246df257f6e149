//! Rows that change, and what is told of them.

use crate::catalog::graph;
use expect_test::expect;

#[test]
fn groups_without_a_window_change() {
    expect![[r#"
        [1] Source(flights)
            columns: origin STRING, distance INT, time_hour TIMESTAMP(3)
            watermark: (time_hour - INTERVAL '24 HOURS')
            read: bounded
            state: offsets and watermark of each split
        [2] Calc
            from [1] forward
            filter: (distance > 3)
            project: origin, distance
        [3] GroupAggregate
            from [2] hash(origin)
            keys: origin
            aggregates: count(*) AS count, sum(CAST(distance AS BIGINT)) AS sum
            changes: each row that is replaced is taken back
            state: 2 accumulators per key, for as long as the job lives
        [4] Calc
            from [3] forward
            project: origin, "count" AS count(*), CAST("sum" AS INTEGER) AS sum(flights.distance)
            changes: each row that is replaced is taken back
        [5] Sink(print)
            from [4] forward
            columns: origin STRING, count(*) BIGINT NOT NULL, sum(flights.distance) INT
            connector: print
            changes: each row that is replaced is taken back
            state: what is staged and not yet committed
    "#]]
    .assert_eq(&graph(r#"SELECT origin, COUNT(*), SUM(distance) FROM flights WHERE distance > 3 GROUP BY origin"#));
}

#[test]
fn a_table_by_the_key_of_the_groups_is_told_what_they_have_become() {
    expect![[r#"
        [1] Source(flights)
            columns: origin STRING, time_hour TIMESTAMP(3)
            watermark: (time_hour - INTERVAL '24 HOURS')
            read: bounded
            state: offsets and watermark of each split
        [2] GroupAggregate
            from [1] hash(origin)
            keys: origin
            aggregates: count(*) AS count
            changes: by key (origin)
            state: 1 accumulators per key, for as long as the job lives
        [3] Calc
            from [2] forward
            project: "count" AS n, origin
            changes: by key (origin)
        [4] Sink(o)
            from [3] hash(origin)
            columns: n BIGINT, origin STRING
            connector: filesystem
            changes: by key (origin)
            state: what is staged and not yet committed
    "#]]
    .assert_eq(&graph(
        r#"
CREATE TABLE o (n BIGINT, origin STRING, PRIMARY KEY (origin) NOT ENFORCED)
  WITH ('connector' = 'filesystem', 'path' = 'o', 'sink.changelog' = 'table');
INSERT INTO o SELECT COUNT(*), origin FROM flights GROUP BY origin
"#,
    ));
}

#[test]
fn a_filter_behind_the_groups_has_to_see_what_they_were() {
    expect![[r#"
        [1] Source(flights)
            columns: origin STRING, time_hour TIMESTAMP(3)
            watermark: (time_hour - INTERVAL '24 HOURS')
            read: bounded
            state: offsets and watermark of each split
        [2] GroupAggregate
            from [1] hash(origin)
            keys: origin
            aggregates: count(*) AS count
            changes: each row that is replaced is taken back
            state: 1 accumulators per key, for as long as the job lives
        [3] Calc
            from [2] forward
            filter: ("count" > 5)
            project: "count" AS n, origin
            changes: each row that is replaced is taken back
        [4] Sink(o)
            from [3] hash(origin)
            columns: n BIGINT, origin STRING
            connector: filesystem
            changes: each row that is replaced is taken back
            state: what is staged and not yet committed
    "#]]
    .assert_eq(&graph(
        r#"
CREATE TABLE o (n BIGINT, origin STRING, PRIMARY KEY (origin) NOT ENFORCED)
  WITH ('connector' = 'filesystem', 'path' = 'o', 'sink.changelog' = 'table');
INSERT INTO o SELECT COUNT(*), origin FROM flights GROUP BY origin HAVING COUNT(*) > 5
"#,
    ));
}

#[test]
fn groups_of_groups_take_rows_back() {
    expect![[r#"
        [1] Source(flights)
            columns: origin STRING, time_hour TIMESTAMP(3)
            watermark: (time_hour - INTERVAL '24 HOURS')
            read: bounded
            state: offsets and watermark of each split
        [2] GroupAggregate
            from [1] hash(origin)
            keys: origin
            aggregates: count(*) AS count
            changes: each row that is replaced is taken back
            state: 1 accumulators per key, for as long as the job lives
        [3] GroupAggregate
            from [2] hash(count)
            keys: count
            aggregates: count(*) AS count_1
            changes: each row that is replaced is taken back
            state: 1 accumulators per key, for as long as the job lives
        [4] Calc
            from [3] forward
            project: "count" AS n, count_1 AS count(*)
            changes: each row that is replaced is taken back
        [5] Sink(print)
            from [4] forward
            columns: n BIGINT NOT NULL, count(*) BIGINT NOT NULL
            connector: print
            changes: each row that is replaced is taken back
            state: what is staged and not yet committed
    "#]]
    .assert_eq(&graph(
        r#"SELECT n, COUNT(*) FROM (SELECT origin, COUNT(*) AS n FROM flights GROUP BY origin) GROUP BY n"#,
    ));
}

#[test]
fn an_inner_join_of_new_rows_gives_new_rows() {
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
        [3] Calc
            from [1] forward
            project: id, reserve
        [4] Calc
            from [2] forward
            project: auction, price
        [5] Join(Inner)
            left from [3] hash(id)
            right from [4] hash(auction)
            filter: (price > reserve)
            state: all rows of both sides, for as long as the job lives
        [6] Calc
            from [5] forward
            project: id, price
        [7] Sink(print)
            from [6] forward
            columns: id BIGINT, price BIGINT
            connector: print
            state: what is staged and not yet committed
    "#]]
    .assert_eq(&graph(r#"SELECT a.id, b.price FROM auction a JOIN bid b ON a.id = b.auction AND b.price > a.reserve"#));
}

#[test]
fn an_outer_join_takes_back_the_row_without_a_match() {
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
            from [1] forward
            project: id
        [4] Calc
            from [2] forward
            project: auction, price
        [5] Join(Left)
            left from [3] hash(id)
            right from [4] hash(auction)
            changes: each row that is replaced is taken back
            state: all rows of both sides, for as long as the job lives
        [6] Calc
            from [5] forward
            project: id, price
            changes: each row that is replaced is taken back
        [7] Sink(print)
            from [6] forward
            columns: id BIGINT, price BIGINT
            connector: print
            changes: each row that is replaced is taken back
            state: what is staged and not yet committed
    "#]]
    .assert_eq(&graph(r#"SELECT a.id, b.price FROM auction a LEFT JOIN bid b ON a.id = b.auction"#));
}

#[test]
fn new_rows_beside_rows_that_change() {
    expect![[r#"
        [1] Source(flights)
            columns: origin STRING, time_hour TIMESTAMP(3)
            watermark: (time_hour - INTERVAL '24 HOURS')
            read: bounded
            state: offsets and watermark of each split
        [2] GroupAggregate
            from [1] hash(origin)
            keys: origin
            aggregates: count(*) AS count
            changes: each row that is replaced is taken back
            state: 1 accumulators per key, for as long as the job lives
        [3] Calc
            from [2] forward
            project: origin, "count" AS n
            changes: each row that is replaced is taken back
        [4] Source(weather)
            columns: origin STRING, time_hour TIMESTAMP(3)
            watermark: time_hour
            read: bounded
            state: offsets and watermark of each split
        [5] Calc
            from [4] forward
            project: origin, 1 AS n
        [6] Calc
            from [5] forward
            project: origin, n
            changes: each row that is replaced is taken back
        [7] Sink(print)
            from [3] forward
            from [6] forward
            columns: origin STRING, n BIGINT NOT NULL
            connector: print
            changes: each row that is replaced is taken back
            state: what is staged and not yet committed
    "#]].assert_eq(&graph(
        r#"SELECT origin, COUNT(*) AS n FROM flights GROUP BY origin UNION ALL SELECT origin, CAST(1 AS BIGINT) FROM weather"#,
    ));
}

#[test]
fn rows_of_both_tables() {
    expect![[r#"
        [1] Source(flights)
            columns: origin STRING, time_hour TIMESTAMP(3)
            watermark: (time_hour - INTERVAL '24 HOURS')
            read: bounded
            state: offsets and watermark of each split
        [2] GroupAggregate
            from [1] hash(origin)
            keys: origin
            changes: each row that is replaced is taken back
            state: the keys, for as long as the job lives
        [3] Source(weather)
            columns: origin STRING, time_hour TIMESTAMP(3)
            watermark: time_hour
            read: bounded
            state: offsets and watermark of each split
        [4] Calc
            from [3] forward
            project: origin AS origin_1
        [5] Join(LeftSemi)
            left from [2] hash(origin)
            right from [4] hash(origin_1)
            changes: each row that is replaced is taken back
            state: all rows of both sides, for as long as the job lives
        [6] Sink(print)
            from [5] forward
            columns: origin STRING
            connector: print
            changes: each row that is replaced is taken back
            state: what is staged and not yet committed
    "#]]
    .assert_eq(&graph(r#"SELECT origin FROM flights INTERSECT SELECT origin FROM weather"#));
}

#[test]
fn rows_of_one_table_alone() {
    expect![[r#"
        [1] Source(flights)
            columns: origin STRING, time_hour TIMESTAMP(3)
            watermark: (time_hour - INTERVAL '24 HOURS')
            read: bounded
            state: offsets and watermark of each split
        [2] GroupAggregate
            from [1] hash(origin)
            keys: origin
            changes: each row that is replaced is taken back
            state: the keys, for as long as the job lives
        [3] Source(weather)
            columns: origin STRING, time_hour TIMESTAMP(3)
            watermark: time_hour
            read: bounded
            state: offsets and watermark of each split
        [4] Calc
            from [3] forward
            project: origin AS origin_1
        [5] Join(LeftAnti)
            left from [2] hash(origin)
            right from [4] hash(origin_1)
            changes: each row that is replaced is taken back
            state: all rows of both sides, for as long as the job lives
        [6] Sink(print)
            from [5] forward
            columns: origin STRING
            connector: print
            changes: each row that is replaced is taken back
            state: what is staged and not yet committed
    "#]]
    .assert_eq(&graph(r#"SELECT origin FROM flights EXCEPT SELECT origin FROM weather"#));
}

#[test]
fn a_table_of_changes_into_one_by_another_key() {
    expect![[r#"
        [1] Source(people)
            columns: before ROW<id INT, name STRING, moved TIMESTAMP(3)>, after ROW<id INT, name STRING, moved TIMESTAMP(3)>, op STRING
            watermark: coalesce("after".moved, "before".moved)
            read: bounded
            state: offsets and watermark of each split
        [2] Changes
            from [1] forward
            columns: id INT NOT NULL, name STRING, moved TIMESTAMP(3)
            changes: each row that is replaced is taken back
        [3] Calc
            from [2] forward
            filter: (id > 3)
            project: "name" AS name, id
            changes: each row that is replaced is taken back
        [4] TopN(1)
            from [3] hash(name)
            order: what they hold
            rows: 1 to 1
            changes: by key (name)
            state: all rows, of which 1 are told per partition, for as long as the job lives
        [5] Sink(names)
            from [4] hash(name)
            columns: name STRING, id INT
            connector: filesystem
            changes: by key (name)
            state: what is staged and not yet committed
    "#]].assert_eq(&graph(
        r#"
        CREATE TABLE people (id INT NOT NULL, name STRING, moved TIMESTAMP(3), WATERMARK FOR moved AS moved) WITH ('connector' = 'filesystem', 'path' = 'p', 'format' = 'debezium-json');
        CREATE TABLE names (name STRING, id INT, PRIMARY KEY (name) NOT ENFORCED) WITH ('connector' = 'filesystem', 'path' = 'n', 'format' = 'json', 'sink.changelog' = 'table');
        INSERT INTO names SELECT name, id FROM people WHERE id > 3"#,
    ));
}

#[test]
fn windows_that_are_told_early_are_groups() {
    expect![[r#"
        [1] Source(flights)
            columns: origin STRING, time_hour TIMESTAMP(3)
            watermark: (time_hour - INTERVAL '24 HOURS')
            read: bounded
            state: offsets and watermark of each split
        [2] AssignWindow(TUMBLE 1d)
            from [1] forward
            time: event
        [3] GroupAggregate
            from [2] hash(window_start, window_end, origin)
            keys: window_start, window_end, origin
            aggregates: count(*) AS count
            told: 10s after a change, at the end of the window, 1s after a late row
            allowed lateness: 3600000 ms
            changes: by key (window_start, window_end, origin)
            state: 1 accumulators per key and open window
        [4] Calc
            from [3] forward
            project: window_start AS a, window_end AS b, origin, "count" AS n
            changes: by key (a, b, origin)
        [5] Sink(o)
            from [4] hash(a, b, origin)
            columns: a TIMESTAMP(3) NOT NULL, b TIMESTAMP(3) NOT NULL, origin STRING, n BIGINT
            connector: filesystem
            changes: by key (a, b, origin)
            state: what is staged and not yet committed
    "#]]
    .assert_eq(&graph(
        r#"
SET 'table.exec.emit.early-fire.enabled' = 'true';
SET 'table.exec.emit.early-fire.delay' = '10 s';
SET 'table.exec.emit.late-fire.enabled' = 'true';
SET 'table.exec.emit.late-fire.delay' = '1 s';
SET 'table.exec.emit.allow-lateness' = '1 h';
CREATE TABLE o (a TIMESTAMP(3), b TIMESTAMP(3), origin STRING, n BIGINT, PRIMARY KEY (a, b, origin) NOT ENFORCED)
  WITH ('connector' = 'filesystem', 'path' = 'o', 'sink.changelog' = 'table');
INSERT INTO o SELECT window_start, window_end, origin, COUNT(*)
  FROM TABLE(TUMBLE(TABLE flights, DESCRIPTOR(time_hour), INTERVAL '1' DAY)) GROUP BY window_start, window_end, origin
"#,
    ));
}
