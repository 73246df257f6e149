-- IS [NOT] DISTINCT FROM is a comparison: AND and OR stand outside it.
--! input t.csv
--| a,b,c
--| 1,1,1
--| 2,NA,2
--| NA,NA,3
--| 4,4,9
--! expect out
--| same | 1
--| same | 3
--| other | 2
CREATE TABLE t (a INT, b INT, c INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = 'NA');
CREATE TABLE o (w STRING, c INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT 'same', c FROM t WHERE a IS NOT DISTINCT FROM b AND c < 9;
INSERT INTO o SELECT 'other', c FROM t WHERE c = 2 AND a IS DISTINCT FROM b AND c < 9;
