-- a stands twice, NULL does not count: two different texts; the different numbers 1 and 2 sum to 3.
--! input t.csv
--| ts,s,n
--| 2013-01-01 00:00:01,a,1
--| 2013-01-01 00:00:02,a,1
--| 2013-01-01 00:00:03,b,2
--| 2013-01-01 00:00:04,NA,2
--! expect out
--| 2 | 3 | 4
CREATE TABLE t (ts TIMESTAMP(3), s STRING, n INT, WATERMARK FOR ts AS ts)
WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = 'NA');
CREATE TABLE o (a BIGINT, b BIGINT, c BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT COUNT(DISTINCT s), SUM(DISTINCT n), COUNT(*)
FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end;
