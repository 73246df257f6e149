-- Under AND, lists that have nothing in common are unknown for NULL.
--! input t.csv
--| id,s
--| 1,a
--| 2,NA
--! expect out
--| 1 | false | false
--| 2 | NULL | NULL
--! expect rows
--| 1
CREATE TABLE t (id INT, s STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = 'NA');
CREATE TABLE o (id INT, a BOOLEAN, b BOOLEAN) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT id, s IN ('a', 'b') AND s IN ('c', 'd'), s IN ('a', 'b', 'x', 'y') AND s NOT IN ('a', 'b', 'x', 'y', 'z') FROM t;
CREATE TABLE rows (id INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'rows');
INSERT INTO rows SELECT id FROM t WHERE NOT (s IN ('a', 'b') AND s IN ('c', 'd'));
