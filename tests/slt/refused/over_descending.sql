-- The first row in descending order is the last one to come.
--! error E0102 at 6:59
--! message descending
CREATE TABLE t (k INT, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (s INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT SUM(v) OVER (PARTITION BY k ORDER BY ts DESC) FROM t;
