-- Rows of both sides, equal ones twice.
--! input a.csv
--| x
--| 1
--| 2
--! input b.csv
--| x
--| 2
--! expect out
--| 1
--| 2
--| 2
--| 20
CREATE TABLE a (x INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'a.csv');
CREATE TABLE b (x INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'b.csv');
CREATE TABLE o (x INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT x FROM a UNION ALL SELECT x FROM b UNION ALL SELECT x * 10 FROM b;
