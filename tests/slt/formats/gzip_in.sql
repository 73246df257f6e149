-- A compressed file and a plain one in the same folder.
--! input in/a.csv.gz
--| a
--| 1
--! input in/b.csv
--| a
--| 2
--! expect out
--| 1
--| 2
CREATE TABLE t (a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'in');
CREATE TABLE o (a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT a FROM t;
