-- Fired eagerly, [0,10) is gone when the row at 7 comes, which counts in [5,15) alone and is not late.
--! input in/1.csv
--| ts,v
--| 2013-01-01 00:00:03,1
--| 2013-01-01 00:00:12,2
--! input in/2.csv
--| ts,v
--| 2013-01-01 00:00:07,4
--| 2013-01-01 00:00:01,8
--| 2013-01-01 00:00:31,16
--! parallelism 1
--! late 1
--| {"v": 8}
--! expect out
--| 2012-12-31 23:59:55 | 1
--| 2013-01-01 00:00:00 | 1
--| 2013-01-01 00:00:05 | 6
--| 2013-01-01 00:00:10 | 2
--| 2013-01-01 00:00:25 | 16
--| 2013-01-01 00:00:30 | 16
CREATE TABLE t (ts TIMESTAMP(3), v INT, WATERMARK FOR ts AS ts)
WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'in', 'scan.split-order' = 'time');
SET 'window.firing' = 'eager';
CREATE TABLE o (s TIMESTAMP(3), t BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT window_start, SUM(v) FROM TABLE(HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '10' SECOND)) GROUP BY window_start, window_end;
