-- Two files that follow each other. The first moves the watermark to 12. Of the second, the row at 3 is
-- late ([0,10) has closed), the one at 11 is not ([10,20) has not).
--! input in/1.csv
--| ts,v
--| 2013-01-01 00:00:05,1
--| 2013-01-01 00:00:12,2
--! input in/2.csv
--| ts,v
--| 2013-01-01 00:00:03,4
--| 2013-01-01 00:00:11,8
--! late 1
--| {"v": 4}
--! parallelism 1
--! expect out
--| 2013-01-01 00:00:00 | 1
--| 2013-01-01 00:00:10 | 10
CREATE TABLE t (ts TIMESTAMP(3), v INT, WATERMARK FOR ts AS ts)
WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'in', 'scan.split-order' = 'time');
CREATE TABLE o (w TIMESTAMP(3), s BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT window_start, SUM(v) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end;
