//! What is refused, with its code, place and hint.

use expect_test::expect;

use crate::catalog::refusal;

#[test]
fn rows_that_change_into_a_table_of_new_rows() {
    expect![[r#"
        E0115 rows of this query change, and table `o` (filesystem) takes new rows only at 2:121
        hint: aggregate in a window, whose rows are final; or, in files, keep the table (`'sink.changelog' = 'table'`) or a log of its changes (`'sink.changelog' = 'log'`)
    "#]].assert_eq(&refusal(
        r#"CREATE TABLE o (origin STRING, n BIGINT) WITH ('connector' = 'filesystem', 'path' = 'o', 'format' = 'csv'); INSERT INTO o SELECT origin, COUNT(*) FROM flights GROUP BY origin"#,
    ));
}

#[test]
fn rows_that_change_into_a_table_without_a_key() {
    expect![[r#"
        E0115 rows of this query change, and table `o` has no PRIMARY KEY to find them by at 2:131
        hint: declare the columns that tell rows apart: `PRIMARY KEY (…) NOT ENFORCED`
    "#]].assert_eq(&refusal(
        r#"CREATE TABLE o (origin STRING, n BIGINT) WITH ('connector' = 'filesystem', 'path' = 'o', 'sink.changelog' = 'table'); INSERT INTO o SELECT origin, COUNT(*) FROM flights GROUP BY origin"#,
    ));
}

#[test]
fn a_window_over_rows_that_change() {
    expect![[r#"
        E0115 a window over rows that may change or be taken back is not supported yet at 2:151
        hint: aggregate, join or rank in a window first, so that rows are final
    "#]].assert_eq(&refusal(
        r#"CREATE VIEW g AS SELECT origin, MAX(time_hour) AS t FROM flights GROUP BY origin; SELECT window_start, COUNT(*) FROM TABLE(TUMBLE(TABLE g, DESCRIPTOR(t), INTERVAL '1' HOUR)) GROUP BY window_start, window_end"#,
    ));
}

#[test]
fn the_first_of_rows_that_are_taken_back() {
    expect![[r#"
        E0102 `first_value` takes rows in their order, and rows of this query may be taken back at 2:23
        hint: aggregate before the query starts to change its rows, or use MIN or MAX
    "#]]
    .assert_eq(&refusal(
        r#"SELECT n, FIRST_VALUE(origin) FROM (SELECT origin, COUNT(*) AS n FROM flights GROUP BY origin) GROUP BY n"#,
    ));
}

#[test]
fn join_on_window_end_alone() {
    expect![[r#"
        E0109 a window join compares both `window_start` and `window_end` of its sides at 2:158
        hint: write `ON l.window_start = r.window_start AND l.window_end = r.window_end AND …`
    "#]].assert_eq(&refusal(
        r#"SELECT a.id FROM TABLE(TUMBLE(TABLE auction, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) a JOIN TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) b ON a.id = b.auction AND a.window_end = b.window_end"#,
    ));
}

#[test]
fn join_of_different_windows() {
    expect![[r#"
        E0109 the two sides of this join have different windows at 2:158
        hint: use the same window function with the same lengths on both sides
    "#]].assert_eq(&refusal(
        r#"SELECT a.id FROM TABLE(TUMBLE(TABLE auction, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) a JOIN TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '2' MINUTE)) b ON a.window_start = b.window_start AND a.window_end = b.window_end"#,
    ));
}

#[test]
fn order_by() {
    expect![[r#"
        E0102 ORDER BY of a whole stream is not supported at 2:1
        hint: add LIMIT n, or take the first rows of each window: ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY …)
    "#]].assert_eq(&refusal(
        r#"SELECT origin FROM flights ORDER BY origin"#,
    ));
}

#[test]
fn limit() {
    expect![[r#"
        E0102 LIMIT takes a number above 0, and OFFSET stands with it alone at 2:1
        hint: write LIMIT 10, or LIMIT 10 OFFSET 5
    "#]]
    .assert_eq(&refusal(r#"SELECT origin FROM flights OFFSET 10"#));
}

#[test]
fn row_before() {
    expect![[r#"
        E0110 `lag` OVER a stream is not supported yet at 2:20
        hint: supported are ROW_NUMBER, RANK and DENSE_RANK() OVER (PARTITION BY … ORDER BY …) in a subquery, with `WHERE row_number <= n` around it
    "#]].assert_eq(&refusal(
        r#"SELECT origin, LAG(distance) OVER (PARTITION BY origin ORDER BY time_hour) FROM flights"#,
    ));
}

#[test]
fn arrival_of_rows_that_change() {
    expect![[r#"
        E0115 `proctime()` gives another value each time, and rows of this query are taken back at 2:1
        hint: compute it before rows change, or leave it out
    "#]].assert_eq(&refusal(
        r#"SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY origin ORDER BY PROCTIME()) AS rn FROM (SELECT origin, PROCTIME() AS p, COUNT(*) AS n FROM flights GROUP BY origin)) WHERE rn <= 3"#,
    ));
}

#[test]
fn row_number_without_a_bound() {
    expect![[r#"
        E0110 a row number without a bound keeps every row at 2:1
        hint: filter by it in an outer query: `WHERE row_number <= n`
    "#]].assert_eq(&refusal(
        r#"SELECT origin, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY distance) AS rn FROM TABLE(TUMBLE(TABLE flights, DESCRIPTOR(time_hour), INTERVAL '1' HOUR))"#,
    ));
}

#[test]
fn group_by_half_a_window() {
    expect![[r#"
        E0109 a window aggregation groups by both `window_start` and `window_end` at 2:1
        hint: add the missing one to GROUP BY; it changes no group
    "#]].assert_eq(&refusal(
        r#"SELECT window_start, COUNT(*) FROM TABLE(TUMBLE(TABLE flights, DESCRIPTOR(time_hour), INTERVAL '1' HOUR)) GROUP BY window_start"#,
    ));
}

#[test]
fn window_not_grouped() {
    expect![[r#"
        E0109 this aggregation over a window table function does not group by its window at 2:110
        hint: add `window_start, window_end` to GROUP BY
    "#]].assert_eq(&refusal(
        r#"SELECT origin, COUNT(*) FROM TABLE(TUMBLE(TABLE flights, DESCRIPTOR(time_hour), INTERVAL '1' HOUR)) GROUP BY origin"#,
    ));
}

#[test]
fn window_over_plain_column() {
    expect![[r#"
        E0109 `expires` is no time attribute at 2:87
        hint: declare `WATERMARK FOR expires AS expires - INTERVAL '5' SECOND` in the table, or a processing-time column `p AS PROCTIME()`; an expression over a time attribute is none, and behind a session, a Top-N or a join of windows only `window_time` is one
    "#]].assert_eq(&refusal(
        r#"SELECT window_start, window_end, COUNT(*) FROM TABLE(TUMBLE(TABLE auction, DESCRIPTOR(expires), INTERVAL '1' HOUR)) GROUP BY window_start, window_end"#,
    ));
}

#[test]
fn unknown_column() {
    expect![[r#"
        E0104 no column `carier` at 2:8
        hint: did you mean `carrier`?
    "#]]
    .assert_eq(&refusal(
        r#"SELECT carier
FROM flights"#,
    ));
}

#[test]
fn unknown_column_with_alias() {
    expect![[r#"
        E0104 no column `f.carier` at 2:8
        hint: did you mean `carrier`?
    "#]]
    .assert_eq(&refusal(r#"SELECT f.carier FROM flights f"#));
}

#[test]
fn unknown_function() {
    expect![[r#"
        E0105 no function `uper` at 2:8
        hint: did you mean `UPPER`?
    "#]]
    .assert_eq(&refusal(r#"SELECT uper(carrier) FROM flights"#));
}

#[test]
fn unknown_table() {
    expect![[r#"
        E0103 no table or view `flight` at 2:15
        hint: did you mean `flights`?
    "#]]
    .assert_eq(&refusal(r#"SELECT * FROM flight"#));
}

#[test]
fn unknown_time_column() {
    expect![[r#"
        E0104 no column `time_hours` at 2:54
        hint: did you mean `time_hour`?
    "#]]
    .assert_eq(&refusal(r#"SELECT * FROM TABLE(TUMBLE(TABLE flights, DESCRIPTOR(time_hours), INTERVAL '1' HOUR))"#));
}

#[test]
fn wrong_types() {
    expect![[r#"
        E0106 cannot coerce arithmetic expression STRING + BIGINT to valid types at 2:8
    "#]]
    .assert_eq(&refusal(r#"SELECT carrier + 1 FROM flights"#));
}

#[test]
fn grouping_sets_with_half_a_window() {
    expect![[r#"
        E0109 a window aggregation groups by both `window_start` and `window_end` at 2:182
        hint: add the missing one to GROUP BY; it changes no group
    "#]].assert_eq(&refusal(
        r#"SELECT window_start, origin, COUNT(*) FROM TABLE(TUMBLE(TABLE flights, DESCRIPTOR(time_hour), INTERVAL '1' HOUR)) GROUP BY GROUPING SETS ((window_start, window_end), (window_start, origin))"#,
    ));
}

#[test]
fn scalar_subqueries_of_several_rows_or_without_a_value_over_none() {
    expect![[r#"
        E0102 a subquery that stands for one value, which may have any number of rows, is not supported at 2:46
        hint: make it an aggregate without GROUP BY, `(SELECT MAX(x) FROM t)`, or join the two
    "#]]
    .assert_eq(&refusal(r#"SELECT origin FROM flights WHERE distance > (SELECT id FROM auction)"#));
    expect![[r#"
        E0102 a subquery that stands for one value, which may have any number of rows, is not supported at 2:46
        hint: make it an aggregate without GROUP BY, `(SELECT MAX(x) FROM t)`, or join the two
    "#]]
    .assert_eq(&refusal(
        r#"SELECT origin FROM flights WHERE distance > (SELECT MAX(id) FROM auction GROUP BY category)"#,
    ));
    expect![[r#"
        E0102 a subquery that stands for one value, whose HAVING may hold over no rows, is not supported at 2:53
        hint: make it an aggregate without GROUP BY, `(SELECT MAX(x) FROM t)`, or join the two
    "#]]
    .assert_eq(&refusal(r#"SELECT origin, (SELECT COUNT(*) FROM auction HAVING COUNT(*) < 5) FROM flights"#));
    expect![[r#"
        E0102 a subquery that stands for one value, which may be NULL over rows and is something else over none, is not supported at 2:24
        hint: make it an aggregate without GROUP BY, `(SELECT MAX(x) FROM t)`, or join the two
    "#]]
    .assert_eq(&refusal(
        r#"SELECT origin, (SELECT CASE WHEN MAX(id) > 5 THEN NULL ELSE COUNT(*) END FROM auction) FROM flights"#,
    ));
}

#[test]
fn scalar_subqueries_that_would_be_joined_wrongly() {
    let value = |subquery: &str| refusal(&format!("SELECT f.origin, ({subquery}) FROM flights AS f"));
    expect![[r#"
        E0102 a subquery that stands for one value, tied to the rows around it and with a HAVING, is not supported at 2:58
        hint: make it an aggregate without GROUP BY, `(SELECT MAX(x) FROM t)`, or join the two
    "#]]
    .assert_eq(&value("SELECT MAX(id) FROM auction AS a WHERE a.seller = f.distance HAVING COUNT(*) < 5"));
    expect![[r#"
        E0102 a subquery that stands for one value, which aggregates an aggregate of all rows, is not supported at 2:19
        hint: make it an aggregate without GROUP BY, `(SELECT MAX(x) FROM t)`, or join the two
    "#]]
    .assert_eq(&value("SELECT MAX(n) FROM (SELECT COUNT(*) AS n FROM auction AS a WHERE a.seller = f.distance) AS x"));
    expect![[r#"
        E0102 a subquery that stands for one value, which may have any number of rows, is not supported at 2:19
        hint: make it an aggregate without GROUP BY, `(SELECT MAX(x) FROM t)`, or join the two
    "#]]
    .assert_eq(&value("SELECT DISTINCT COUNT(*) FROM auction AS a WHERE a.seller = f.distance"));
    expect![[r#"
        E0102 a subquery that stands for one value, tied to the rows around it by a CAST, is not supported at 2:19
        hint: make it an aggregate without GROUP BY, `(SELECT MAX(x) FROM t)`, or join the two
    "#]]
    .assert_eq(&value("SELECT COUNT(*) FROM weather AS w WHERE CAST(w.time_hour AS DATE) = CAST(f.time_hour AS DATE)"));
    expect![[r#"
        E0102 a subquery that stands for one value, whose HAVING may hold over no rows, is not supported at 2:55
        hint: make it an aggregate without GROUP BY, `(SELECT MAX(x) FROM t)`, or join the two
    "#]]
    .assert_eq(&value("SELECT COUNT(*) FROM auction HAVING COUNT(*) >= (SELECT COUNT(*) FROM flights)"));
    expect![[r#"
        E0102 a subquery that stands for one value in this place is not supported yet at 2:12
        hint: join the two in a window, or as a lookup of a bounded table
    "#]]
    .assert_eq(&refusal("SELECT SUM(distance - (SELECT MIN(id) FROM auction)) FROM flights GROUP BY origin"));
}

#[test]
fn in_under_or_where_null_would_matter() {
    expect![[r#"
        E0102 EXISTS or IN under OR is not supported yet at 2:55
        hint: split the query at the OR into two and UNION ALL them
    "#]]
    .assert_eq(&refusal(
        r#"SELECT origin FROM flights WHERE distance > 5 OR NOT (carrier IN (SELECT name FROM airlines))"#,
    ));
    expect![[r#"
        E0102 a subquery that is tied to the rows around it by more than equalities is not supported yet at 2:1
        hint: join the two in a window, or as a lookup of a bounded table
    "#]]
    .assert_eq(&refusal(
        r#"SELECT origin FROM flights AS f WHERE f.distance > 5 OR EXISTS (SELECT 1 FROM auction AS a WHERE a.id < f.distance)"#,
    ));
}

#[test]
fn event_time_version_of_a_table_without_times() {
    expect![[r#"
        E0109 a table has versions at event time only if it has a watermark at 2:37
        hint: declare `WATERMARK FOR` its time and its PRIMARY KEY; or look it up as it is: FOR SYSTEM_TIME AS OF a column `proctime AS PROCTIME()` of the stream
    "#]].assert_eq(&refusal(
        r#"SELECT f.flight FROM flights f JOIN airlines FOR SYSTEM_TIME AS OF f.time_hour AS a ON f.carrier = a.carrier"#,
    ));
}

#[test]
fn event_time_version_of_a_table_without_a_key() {
    expect![[r#"
        E0102 `fares` has no PRIMARY KEY: it is not known which rows are versions of each other at 2:248
        hint: declare it: `PRIMARY KEY (…) NOT ENFORCED`
    "#]].assert_eq(&refusal(
        r#"CREATE TABLE fares (carrier STRING, fare INT, since TIMESTAMP(3), WATERMARK FOR since AS since) WITH ('connector' = 'filesystem', 'path' = 'f', 'format' = 'csv'); SELECT f.flight FROM flights f JOIN fares FOR SYSTEM_TIME AS OF f.time_hour AS a ON f.carrier = a.carrier"#,
    ));
}

#[test]
fn event_time_version_by_a_part_of_the_key() {
    expect![[r#"
        E0102 `fares` is not joined by all of its PRIMARY KEY (carrier, fare) at 2:290
        hint: write `ON s.key = t.key` for each of its columns
    "#]].assert_eq(&refusal(
        r#"CREATE TABLE fares (carrier STRING, fare INT, since TIMESTAMP(3), PRIMARY KEY (carrier, fare) NOT ENFORCED, WATERMARK FOR since AS since) WITH ('connector' = 'filesystem', 'path' = 'f', 'format' = 'csv'); SELECT f.flight FROM flights f JOIN fares FOR SYSTEM_TIME AS OF f.time_hour AS a ON f.carrier = a.carrier"#,
    ));
}

#[test]
fn event_time_version_of_an_outer_side() {
    expect![[r#"
        E0102 a join with a table's versions is INNER or LEFT, and this one is Right at 2:298
        hint: the rows of the left side say of which time a version is
    "#]].assert_eq(&refusal(
        r#"CREATE TABLE fares (carrier STRING, fare INT, since TIMESTAMP(3), PRIMARY KEY (carrier) NOT ENFORCED, WATERMARK FOR since AS since) WITH ('connector' = 'filesystem', 'path' = 'f', 'format' = 'csv'); SELECT f.flight, a.fare FROM flights f RIGHT JOIN fares FOR SYSTEM_TIME AS OF f.time_hour AS a ON f.carrier = a.carrier"#,
    ));
}

#[test]
fn event_time_version_of_a_query() {
    expect![[r#"
        E0102 versions are those of a table, not of a query at 2:341
        hint: write the query into a table with a PRIMARY KEY, and join that
    "#]].assert_eq(&refusal(
        r#"CREATE TABLE fares (carrier STRING, fare INT, since TIMESTAMP(3), PRIMARY KEY (carrier) NOT ENFORCED, WATERMARK FOR since AS since) WITH ('connector' = 'filesystem', 'path' = 'f', 'format' = 'csv'); CREATE VIEW cheap AS SELECT * FROM fares WHERE fare < 9; SELECT f.flight FROM flights f JOIN cheap FOR SYSTEM_TIME AS OF f.time_hour AS a ON f.carrier = a.carrier"#,
    ));
}

#[test]
fn event_time_version_for_rows_that_change() {
    expect![[r#"
        E0109 `f.time_hour` is no time column at 2:302
        hint: FOR SYSTEM_TIME AS OF takes the column of the stream's watermark, or one `proctime AS PROCTIME()`
    "#]].assert_eq(&refusal(
        r#"CREATE TABLE fares (carrier STRING, fare INT, since TIMESTAMP(3), PRIMARY KEY (carrier) NOT ENFORCED, WATERMARK FOR since AS since) WITH ('connector' = 'filesystem', 'path' = 'f', 'format' = 'csv'); SELECT a.fare FROM (SELECT carrier, MAX(time_hour) AS time_hour FROM flights GROUP BY carrier) f JOIN fares FOR SYSTEM_TIME AS OF f.time_hour AS a ON f.carrier = a.carrier"#,
    ));
}

#[test]
fn event_time_version_for_first_rows() {
    expect![[r#"
        E0109 `f.time_hour` is no time column at 2:363
        hint: FOR SYSTEM_TIME AS OF takes the column of the stream's watermark, or one `proctime AS PROCTIME()`
    "#]].assert_eq(&refusal(
        r#"CREATE TABLE fares (carrier STRING, fare INT, since TIMESTAMP(3), PRIMARY KEY (carrier) NOT ENFORCED, WATERMARK FOR since AS since) WITH ('connector' = 'filesystem', 'path' = 'f', 'format' = 'csv'); SELECT a.fare FROM (SELECT * FROM (SELECT carrier, time_hour, ROW_NUMBER() OVER (PARTITION BY carrier ORDER BY flight) AS n FROM flights) AS x WHERE n = 1) f JOIN fares FOR SYSTEM_TIME AS OF f.time_hour AS a ON f.carrier = a.carrier"#,
    ));
}

#[test]
fn version_as_of_another_column() {
    expect![[r#"
        E0109 `f.origin` is no time column at 2:37
        hint: FOR SYSTEM_TIME AS OF takes the column of the stream's watermark, or one `proctime AS PROCTIME()`
    "#]]
    .assert_eq(&refusal(
        r#"SELECT f.flight FROM flights f JOIN airlines FOR SYSTEM_TIME AS OF f.origin AS a ON f.carrier = a.carrier"#,
    ));
}

#[test]
fn sink_with_fewer_columns() {
    expect![[r#"
        E0114 the query gives 2 columns (origin, dest), and table `out` takes 1 (a) at 3:13
        hint: columns are matched by position, as in Flink; name them in INSERT INTO t (a, b) to insert a part
    "#]]
    .assert_eq(&refusal(
        r#"CREATE TABLE out (a STRING) WITH ('connector' = 'blackhole');
INSERT INTO out SELECT origin, dest FROM flights"#,
    ));
}

#[test]
fn sink_with_another_type() {
    expect![[r#"
        E0114 column `n` of table `out` is INT, and the query gives `carrier` of type STRING at 3:32
        hint: cast it: `CAST(carrier AS INT)`
    "#]]
    .assert_eq(&refusal(
        r#"CREATE TABLE out (a STRING, n INT) WITH ('connector' = 'blackhole');
INSERT INTO out SELECT origin, carrier FROM flights"#,
    ));
}

#[test]
fn sink_column_too_narrow() {
    expect![[r#"
        E0114 column `n` of table `out` is INT, and the query gives `id` of type BIGINT at 3:24
        hint: cast it: `CAST(id AS INT)`
    "#]]
    .assert_eq(&refusal(
        r#"CREATE TABLE out (n INT) WITH ('connector' = 'blackhole');
INSERT INTO out SELECT id FROM auction"#,
    ));
}

#[test]
fn insert_into_unknown_column() {
    expect![[r#"
        E0104 table `out` has no column `amuont` to insert into at 3:13
        hint: did you mean `amount`?
    "#]]
    .assert_eq(&refusal(
        r#"CREATE TABLE out (amount INT) WITH ('connector' = 'blackhole');
INSERT INTO out (amuont) SELECT flight FROM flights"#,
    ));
}

#[test]
fn insert_into_a_source() {
    expect![[r#"
        E0205 connector `nexmark` cannot be used as Sink at 2:13
    "#]]
    .assert_eq(&refusal(r#"INSERT INTO bid SELECT * FROM bid"#));
}

#[test]
fn nothing_to_run() {
    expect![[r#"
        E0111 the script holds nothing to run at nowhere
        hint: add an INSERT INTO or a SELECT
    "#]]
    .assert_eq(&refusal(r#"SET 'parallelism.default' = '2'"#));
}

#[test]
fn unknown_setting() {
    expect![[r#"
        E0112 unknown setting `paralelism.default` at 2:1
        hint: did you mean `parallelism.default`?
    "#]]
    .assert_eq(&refusal(r#"SET 'paralelism.default' = '2'"#));
}

#[test]
fn unnest_of_text() {
    expect![[r#"
        E0106 UNNEST takes an array or a map, and this is BIGINT at 2:40
    "#]]
    .assert_eq(&refusal(r#"SELECT * FROM events CROSS JOIN UNNEST(id) AS x (a)"#));
}

#[test]
fn not_in_with_nulls() {
    expect![[r#"
        E0102 NOT IN over columns that may be NULL is not supported yet at 2:117
        hint: write NOT EXISTS, which has the meaning most queries want; or declare the columns NOT NULL
    "#]].assert_eq(&refusal(
        r#"SELECT f.flight FROM (SELECT * FROM TABLE(TUMBLE(TABLE flights, DESCRIPTOR(time_hour), INTERVAL '1' HOUR))) f WHERE f.origin NOT IN (SELECT w.origin FROM (SELECT * FROM TABLE(TUMBLE(TABLE weather, DESCRIPTOR(time_hour), INTERVAL '1' HOUR))) w WHERE f.window_start = w.window_start AND f.window_end = w.window_end)"#,
    ));
}

#[test]
fn recursive() {
    expect![[r#"
        E0102 recursive CTE is not implemented at 2:1
    "#]]
    .assert_eq(&refusal(
        r#"WITH RECURSIVE r AS (SELECT id FROM auction UNION ALL SELECT id + 1 FROM r) SELECT * FROM r"#,
    ));
}

#[test]
fn event_time_of_rows_that_were_held() {
    expect![[r#"
        E0109 `time_hour` is no time attribute at 2:164
        hint: declare `WATERMARK FOR time_hour AS time_hour - INTERVAL '5' SECOND` in the table, or a processing-time column `p AS PROCTIME()`; an expression over a time attribute is none, and behind a session, a Top-N or a join of windows only `window_time` is one
    "#]].assert_eq(&refusal(
        r#"SELECT * FROM TABLE(TUMBLE((SELECT time_hour, origin FROM TABLE(SESSION(TABLE flights PARTITION BY origin, DESCRIPTOR(time_hour), INTERVAL '1' HOUR))), DESCRIPTOR(time_hour), INTERVAL '1' HOUR))"#,
    ));
}

#[test]
fn aggregates_that_no_accumulator_has() {
    expect![[r#"
        E0102 COUNT(DISTINCT …) of several columns is not supported yet at 2:49
        hint: write COUNT(DISTINCT (a, b)) FILTER (WHERE a IS NOT NULL AND b IS NOT NULL)
    "#]].assert_eq(&refusal(
        r#"SELECT window_start, window_end, COUNT(DISTINCT origin, dest) FROM TABLE(TUMBLE(TABLE flights, DESCRIPTOR(time_hour), INTERVAL '1' HOUR)) GROUP BY window_start, window_end"#,
    ));
    expect![[r#"
        E0106 GROUPING takes keys of the GROUP BY, and `flights.dest` is none at 2:16
    "#]]
    .assert_eq(&refusal(r#"SELECT origin, GROUPING(dest) FROM flights GROUP BY ROLLUP (origin)"#));
}
