-- Rows that carry their windows on are judged once, when these are assigned: the row at 7 is the best of
-- both of its windows, the one at 1 of none.
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
--| 2013-01-01 00:00:00 | 4
--| 2013-01-01 00:00:05 | 4
--| 2013-01-01 00:00:10 | 2
--| 2013-01-01 00:00:25 | 16
--| 2013-01-01 00:00:30 | 16
CREATE TABLE t (ts TIMESTAMP(3), v INT, WATERMARK FOR ts AS ts)
WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'in', 'scan.split-order' = 'time');
CREATE TABLE o (s TIMESTAMP(3), t BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT window_start, v FROM (
  SELECT window_start, v, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY v DESC) AS place
  FROM TABLE(HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '10' SECOND))) WHERE place <= 1;
