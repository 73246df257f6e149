-- Columns as rows: what stands in the brackets of ARRAY are columns of the table on the left.
--! input t.csv
--| id,a,b
--| 1,10,20
--| 2,30,
--! expect out
--| 1 | 1 | 10
--| 1 | 2 | 20
--| 2 | 1 | 30
--| 2 | 2 | NULL
--! expect concat
--| 1 | 10
--| 1 | 7
--| 2 | 30
--| 2 | 7
CREATE TABLE t (id INT, a INT, b INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (id INT, n INT, e INT) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
CREATE TABLE c (id INT, e INT) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'concat');
INSERT INTO o SELECT t.id, x.n, x.e FROM t CROSS JOIN UNNEST(ARRAY[t.a, b]) WITH ORDINALITY AS x (e, n);
INSERT INTO c SELECT id, e FROM t CROSS JOIN UNNEST(ARRAY_CONCAT(ARRAY[a], ARRAY[7])) AS x (e);
