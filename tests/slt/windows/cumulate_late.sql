-- With the watermark at 12, the longest window [0,15) is open: the rows at 7 and 1 are in all of theirs,
-- those that have ended by then included.
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
--! late none
--! expect out
--| 2013-01-01 00:00:00 | 2013-01-01 00:00:05 | 9
--| 2013-01-01 00:00:00 | 2013-01-01 00:00:10 | 13
--| 2013-01-01 00:00:00 | 2013-01-01 00:00:15 | 15
--| 2013-01-01 00:00:30 | 2013-01-01 00:00:35 | 16
--| 2013-01-01 00:00:30 | 2013-01-01 00:00:40 | 16
--| 2013-01-01 00:00:30 | 2013-01-01 00:00:45 | 16
CREATE TABLE t (ts TIMESTAMP(3), v INT, WATERMARK FOR ts AS ts)
WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'in', 'scan.split-order' = 'time');
CREATE TABLE o (s TIMESTAMP(3), e TIMESTAMP(3), t BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT window_start, window_end, SUM(v) FROM TABLE(CUMULATE(TABLE t, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '15' SECOND)) GROUP BY window_start, window_end;
