-- Two columns of a query may be the same expression: columns are matched by position.
--! input t.csv
--| a
--| 1
--! expect out
--| 2 | 2
CREATE TABLE t (a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (a INT, b INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT a + 1, a + 1 FROM t;
