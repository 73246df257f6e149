-- Under AND, lists that have nothing in common are unknown for NULL.
--! input t.csv
--| id,s
--| 1,a
--| 2,NA
--! expect out
--| 1 | false | false | true | true | false
--| 2 | NULL | NULL | NULL | NULL | true
--! expect longs
--| 1 | true | true | false
--| 2 | NULL | NULL | true
--! expect rows
--| 1
CREATE TABLE t (id INT, s STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = 'NA');
CREATE TABLE o (id INT, a BOOLEAN, b BOOLEAN, c BOOLEAN, d BOOLEAN, e BOOLEAN) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT id, s IN ('a', 'b') AND s IN ('c', 'd'), s IN ('a', 'b', 'x', 'y') AND s NOT IN ('a', 'b', 'x', 'y', 'z'),
  NOT ((id + 1 = 4 OR s = 'x' OR s = 'y') AND (s = 'p' OR s = 'q')), s NOT IN ('a', 'b') OR s NOT IN ('c', 'd'), (s IN ('a', 'b') AND (s = 'c' OR s = 'd')) IS NULL FROM t;
CREATE TABLE rows (id INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'rows');
INSERT INTO rows SELECT id FROM t WHERE NOT (s IN ('a', 'b') AND s IN ('c', 'd'));
CREATE TABLE longs (id BIGINT, a BOOLEAN, b BOOLEAN, c BOOLEAN) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'longs');
INSERT INTO longs SELECT id, NOT ((x = 1 OR x = 2) AND (x = 3 OR x = 4)), x NOT IN (1, 2) OR x NOT IN (3, 4), ((x = 1 OR x = 2) AND (x = 3 OR x = 4)) IS NULL
FROM (SELECT CAST(id AS BIGINT) AS id, CASE s WHEN 'a' THEN CAST(1 AS BIGINT) END AS x FROM t);
