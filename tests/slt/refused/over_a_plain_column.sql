-- OVER in the order of a column that is no time would change its rows with each that comes.
--! error E0109 at 7:59
--! hint PARTITION BY k ORDER BY time
--! input t.csv
CREATE TABLE t (k INT, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (s INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT SUM(v) OVER (PARTITION BY k ORDER BY v) FROM t;
