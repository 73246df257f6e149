-- A constant that fails buries the rows that pass the filter, and no others.
--! input t.csv
--| id
--| 1
--| 2
--! dead-letters 1
--! expect out
CREATE TABLE t (id INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (x BIGINT) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
INSERT INTO o SELECT 1 / 0 FROM t WHERE id = 2;
