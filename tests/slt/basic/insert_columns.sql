-- Columns of an INSERT by name: those not named are NULL.
--! input t.csv
--| a
--| 1
--! expect out
--| NULL | 1 | x
CREATE TABLE t (a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (n DOUBLE, a INT, s STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o (s, a) SELECT 'x', a FROM t;
