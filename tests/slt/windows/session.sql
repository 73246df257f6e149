-- Gap of five seconds by key. Key a: 1, 6 (exactly the gap: together), then 20 alone. A NULL key is a key.
--! input t.csv
--| ts,k
--| 2013-01-01 00:00:06,a
--| 2013-01-01 00:00:01,a
--| 2013-01-01 00:00:20,a
--| 2013-01-01 00:00:02,NA
--| 2013-01-01 00:00:03,NA
--! late none
--! expect out
--| 2013-01-01 00:00:01 | 2013-01-01 00:00:11 | a | 2
--| 2013-01-01 00:00:20 | 2013-01-01 00:00:25 | a | 1
--| 2013-01-01 00:00:02 | 2013-01-01 00:00:08 | NULL | 2
CREATE TABLE t (ts TIMESTAMP(3), k STRING, WATERMARK FOR ts AS ts - INTERVAL '10' SECOND)
WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = 'NA');
CREATE TABLE o (s TIMESTAMP(3), e TIMESTAMP(3), k STRING, n BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT window_start, window_end, k, COUNT(*)
FROM TABLE(SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '5' SECOND)) GROUP BY window_start, window_end, k;
