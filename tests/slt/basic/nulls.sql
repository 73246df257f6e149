-- Arithmetic and comparison with NULL are NULL; COALESCE, NULLIF, IS DISTINCT FROM and IFNULL are not.
--! input t.csv
--| a,b
--| 1,NA
--| 2,2
--! expect out
--| 1 | NULL | NULL | 1 | 1 | true | 9
--| 2 | 4 | true | 2 | NULL | false | 2
CREATE TABLE t (a INT, b INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = 'NA');
CREATE TABLE o (a INT, s INT, e BOOLEAN, c INT, n INT, d BOOLEAN, i BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT a, a + b, a = b, COALESCE(b, a), NULLIF(a, b), a IS DISTINCT FROM b, IFNULL(b, 9) FROM t;
