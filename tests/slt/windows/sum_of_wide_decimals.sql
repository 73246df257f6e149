-- The sum of decimals of 38 digits passes 128 bits on the way and comes back; one that stays beyond 38 digits fails.
--! input t.csv
--| ts,v
--| 2013-01-01 00:00:01,99999999999999999999999999999999999999
--| 2013-01-01 00:00:02,99999999999999999999999999999999999999
--| 2013-01-01 00:00:03,-99999999999999999999999999999999999999
--| 2013-01-01 00:00:04,1
--| 2013-01-01 00:00:05,-2
--| 2013-01-01 00:00:11,99999999999999999999999999999999999999
--| 2013-01-01 00:00:12,99999999999999999999999999999999999999
--! dead-letters 1
--! expect out
--| 2013-01-01 00:00:00 | 99999999999999999999999999999999999998
CREATE TABLE t (ts TIMESTAMP(3), v DECIMAL(38, 0), WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (s TIMESTAMP(3), v DECIMAL(38, 0)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT window_start, SUM(v) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end;
