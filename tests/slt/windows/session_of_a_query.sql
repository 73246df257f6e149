-- The input of SESSION may be a query with its own PARTITION BY.
--! input t.csv
--| ts,k
--| 2013-01-01 00:00:01,a
--| 2013-01-01 00:00:06,a
--| 2013-01-01 00:00:20,a
--| 2013-01-01 00:00:02,b
--! late none
--! expect out
--| 2013-01-01 00:00:01 | 2013-01-01 00:00:11 | a | 2
--| 2013-01-01 00:00:20 | 2013-01-01 00:00:25 | a | 1
CREATE TABLE t (ts TIMESTAMP(3), k STRING, WATERMARK FOR ts AS ts - INTERVAL '10' SECOND)
WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (s TIMESTAMP(3), e TIMESTAMP(3), k STRING, n BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT window_start, window_end, k, COUNT(*)
FROM TABLE(SESSION((SELECT * FROM t WHERE k = 'a') PARTITION BY k, DESCRIPTOR(ts), INTERVAL '5' SECOND)) GROUP BY window_start, window_end, k;
