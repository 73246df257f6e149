-- PERCENTILE is exact and interpolated: of 1, 2, 3, 10 the median is 2.5 and the 90th is 3 + 0.7 * 7.
--! input t.csv
--| ts,v
--| 2013-01-01 00:00:01,1
--| 2013-01-01 00:00:02,2
--| 2013-01-01 00:00:03,3
--| 2013-01-01 00:00:04,
--| 2013-01-01 00:00:05,10
--! expect out
--| 2.5 | 7.9 | 10.0
CREATE TABLE t (ts TIMESTAMP(3), v INT, WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (a DOUBLE, b DOUBLE, c DOUBLE) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT PERCENTILE(v, 0.5), PERCENTILE(v, 0.9), PERCENTILE(v, 1)
FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end;
