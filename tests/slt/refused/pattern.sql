-- Every row would fail on it.
--! error E0106
CREATE TABLE t (a STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (a STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT REGEXP_EXTRACT(a, '(((') FROM t;
