-- Columns of a query go into a table by position, so two may have one name, also beside a wildcard.
--! input t.csv
--| a,b
--| 1,2
--! expect one
--| 1 | 5 | 2
--! expect two
--| 1 | 2 | 2 | 7
CREATE TABLE t (a INT, b INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE one (x INT, y INT, z INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'one');
CREATE TABLE two (x INT, y INT, z INT, w INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'two');
INSERT INTO one SELECT a, 5 AS a, b AS a FROM t;
INSERT INTO two SELECT *, a + 1 AS b, 7 AS a FROM t;
