--! error E0102
--! hint name its value first
CREATE TABLE t (a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT COALESCE(NULLIF(RAND_INTEGER(2), 0), a) FROM t;
