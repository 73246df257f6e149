-- A view over a view, with renamed columns.
--! input t.csv
--| a,b
--| 1,x
--| 2,y
--! expect out
--| y | 3
CREATE TABLE t (a INT, b STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TEMPORARY VIEW v (k, n) AS SELECT b, a + 1 FROM t;
CREATE VIEW w AS SELECT * FROM v WHERE n > 2;
CREATE TABLE o (k STRING, n INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT k, n FROM w;
