-- With a header columns are found by name: another order, and one column more than the table has.
--! input t.csv
--| b,extra,a
--| x,9,1
--! expect out
--| 1 | x
CREATE TABLE t (a INT, b STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (a INT, b STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT a, b FROM t;
