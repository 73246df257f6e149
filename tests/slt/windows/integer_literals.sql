-- Sums and extremes of integer literals are INT.
--! input t.csv
--| ts,v
--| 2013-01-01 00:00:01,3
--| 2013-01-01 00:00:02,-1
--! expect out
--| 2013-01-01 00:00:00 | 1 | 2 | 3 | 0
CREATE TABLE t (ts TIMESTAMP(3), v INT, WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (s TIMESTAMP(3), a INT, b INT, c INT, d INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT window_start, SUM(CASE WHEN v > 0 THEN 1 ELSE 0 END), SUM(1), MAX(COALESCE(v, 0)), MIN(0) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end;
