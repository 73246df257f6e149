--! error E0102
--! hint name its value first
CREATE TABLE t (a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT a FROM t WHERE RAND_INTEGER(9) BETWEEN 2 AND 4;
