-- Ten-second windows: [0,10) holds 1, 5 and 9.999; 10 begins the next. Sums and counts by hand.
--! input t.csv
--| ts,k,v
--| 2013-01-01 00:00:01,a,1
--| 2013-01-01 00:00:09.999,a,2
--| 2013-01-01 00:00:05,b,NA
--| 2013-01-01 00:00:10,a,4
--! late none
--! expect out
--| 2013-01-01 00:00:00 | 2013-01-01 00:00:10 | a | 2 | 2 | 3 | 1 | 2
--| 2013-01-01 00:00:00 | 2013-01-01 00:00:10 | b | 1 | 0 | NULL | NULL | NULL
--| 2013-01-01 00:00:10 | 2013-01-01 00:00:20 | a | 1 | 1 | 4 | 4 | 4
CREATE TABLE t (ts TIMESTAMP(3), k STRING, v INT, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND)
WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = 'NA');
CREATE TABLE o (s TIMESTAMP(3), e TIMESTAMP(3), k STRING, n BIGINT, c BIGINT, t BIGINT, lo INT, hi INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT window_start, window_end, k, COUNT(*), COUNT(v), SUM(v), MIN(v), MAX(v)
FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end, k;
