-- The right side of AND and OR is looked at only where the left one has not decided: no division by zero.
--! input t.csv
--| a,b
--| 10,0
--| 10,5
--| 1,2
--| ,0
--| 4,1
--! expect and
--| 10 | 5
--| 4 | 1
--! expect or
--| 10 | 0
--| 10 | 5
--| NULL | 0
--| 4 | 1
--! expect case
--| 10 | zero
--| 10 | many
--| 1 | few
--| NULL | zero
--| 4 | many
CREATE TABLE t (a INT, b INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE x (a INT, b INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'and');
CREATE TABLE y (a INT, b INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'or');
CREATE TABLE z (a INT, s STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'case');
INSERT INTO x SELECT a, b FROM t WHERE b <> 0 AND a / b > 1;
INSERT INTO y SELECT a, b FROM t WHERE b = 0 OR a / b > 1;
INSERT INTO z SELECT a, CASE WHEN b = 0 THEN 'zero' WHEN b <> 0 AND a / b > 1 THEN 'many' ELSE 'few' END FROM t;
