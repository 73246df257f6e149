-- CASE in both forms; no branch and no ELSE is NULL; the first true branch wins; a NULL condition is not true.
--! input t.csv
--| n
--| 1
--| 5
--| NA
--! expect out
--| 1 | low | one
--| 5 | high | NULL
--| NULL | none | NULL
CREATE TABLE t (n INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = 'NA');
CREATE TABLE o (n INT, a STRING, b STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT n, CASE WHEN n < 3 THEN 'low' WHEN n > 0 THEN 'high' ELSE 'none' END, CASE n WHEN 1 THEN 'one' END FROM t;
