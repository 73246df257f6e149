-- Rows in parentheses are compared column by column: with a NULL nothing is known unless another column differs.
--! input t.csv
--| id,v
--| 0,1
--| 1,NA
--! expect out
--| 0 | true | false | true | false | false
--| 1 | NULL | NULL | NULL | NULL | true
CREATE TABLE t (id INT, v INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = 'NA');
CREATE TABLE o (id INT, a BOOLEAN, b BOOLEAN, c BOOLEAN, d BOOLEAN, e BOOLEAN) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT id, (id, v) = (id, 1), (id, v) <> (id, 1), (id, v) IN ((id, 1), (7, 7)), (id, v) NOT IN ((id, 1), (7, 7)), (id, v) <> (0, 1) FROM t;
