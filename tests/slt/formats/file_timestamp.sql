-- The metadata column `timestamp` of a file is when it was last changed.
--! input t.csv
--| a
--| 1
--! expect out
--| 1 | true
CREATE TABLE t (a INT, changed TIMESTAMP(3) METADATA FROM 'timestamp') WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (a INT, c BOOLEAN) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT a, changed > TIMESTAMP '2020-01-01 00:00:00' FROM t;
