-- A value that is drawn anew is another one when its row is taken back.
--! error E0115
--! message another value each time
CREATE TABLE t (k STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (k STRING, n BIGINT, r DOUBLE) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out', 'sink.changelog' = 'log');
INSERT INTO o SELECT k, n, RAND() FROM (SELECT k, COUNT(*) AS n FROM t GROUP BY k);
