-- The type of ROUND goes by its digits, wherever it stands and however they are written.
--! input t.csv
--| ts,x
--| 2013-01-01 00:00:01,1.234
--| 2013-01-01 00:00:02,2.234
--| 2013-01-01 00:00:03,1.55
--! expect out
--| 2 | 2 | 1 | 1 | 3.834
CREATE TABLE t (ts TIMESTAMP(3), x DECIMAL(10, 3), WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (a BIGINT, b BIGINT, c BIGINT, d BIGINT, e DECIMAL(38, 3)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT COUNT(*) FILTER (WHERE ROUND(x, 1) > 1.5), COUNT(*) FILTER (WHERE ROUND(x, 2 - 1) > 1.5),
COUNT(*) FILTER (WHERE ROUND(x, CAST(1 AS BIGINT)) IN (1.55, 2.2)), COUNT(*) FILTER (WHERE ARRAY[ROUND(x, 1), 1.25] = ARRAY[2.2, 1.25]),
SUM(x) FILTER (WHERE ROUND(x, 1) + 0.05 = 1.65 OR ABS(ROUND(x, 1)) > 2.15) + 0.05
FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end;
