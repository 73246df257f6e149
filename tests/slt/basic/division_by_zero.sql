-- A row that cannot be computed goes to the dead letters; the other one stays.
--! input t.csv
--| a,b
--| 4,2
--| 1,0
--! dead-letters 1
--! expect out
--| 2
CREATE TABLE t (a INT, b INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (q INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT a / b FROM t;
