-- A product of more than 38 digits has less behind the point, down to six, and rounds half up.
--! input t.csv
--| id
--| 0
--| 14
--| 1000000
--! expect out
--| 0.000000 | 0.0000000 | 0.00
--| 196.000000 | 14.0000005 | 1.96
--| 1000000000000.000000 | 1000000.0357143 | 10000000000.00
CREATE TABLE t (id INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (a DECIMAL(38, 6), b DECIMAL(38, 7), c DECIMAL(21, 2)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT CAST(id AS DECIMAL(38, 18)) * CAST(id AS DECIMAL(38, 18)), CAST(1.0000000357142857 AS DECIMAL(38, 18)) * id, CAST(id / 10.0 AS DECIMAL(10, 1)) * CAST(id / 10.0 AS DECIMAL(10, 1)) FROM t;
