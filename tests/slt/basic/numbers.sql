-- Integer division truncates towards zero, MOD has the sign of its first argument, decimals are exact: 0.1 + 0.2 = 0.3.
--! input t.csv
--| a,b
--| 7,2
--| -7,2
--! expect out
--| 3 | 1 | true | 49 | 3.5
--| -3 | -1 | true | 49 | -3.5
CREATE TABLE t (a INT, b INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (q INT, m INT, e BOOLEAN, p DOUBLE, d DOUBLE) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT a / b, MOD(a, b), 0.1 + 0.2 = 0.3, POWER(a, 2), CAST(a AS DOUBLE) / b AS d FROM t;
