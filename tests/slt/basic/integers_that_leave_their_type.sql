-- What an INT or BIGINT cannot hold fails its row.
--! input t.csv
--| k,a,b
--| 1,2147483647,1
--| 2,1,9223372036854775807
--| 3,-2147483648,2
--| 4,1,4
--! dead-letters 3
--! expect out
--| 4 | 2 | 8 | -1 | 1
CREATE TABLE t (k INT, a INT, b BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (k INT, x INT, y BIGINT, z INT, w INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT k, a + 1, b * 2, -a, a * a FROM t;
