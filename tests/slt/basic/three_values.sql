-- WHERE keeps what is true, not what is unknown: of NOT (b = 1) the row with NULL is left out, and so it is of b NOT IN (1).
--! input t.csv
--| a,b
--| 1,1
--| 2,NA
--| 3,3
--! expect out
--| 3 | not
--| 3 | in
--| 2 | or
--| 3 | or
CREATE TABLE t (a INT, b INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = 'NA');
CREATE TABLE o (a INT, w STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT a, 'not' FROM t WHERE NOT (b = 1);
INSERT INTO o SELECT a, 'in' FROM t WHERE b NOT IN (1);
INSERT INTO o SELECT a, 'or' FROM t WHERE b > 1 OR b IS NULL;
