-- OVER behind a window goes on in time, and so does a window behind OVER, which puts rows in order.
--! input t.csv
--| id,v,ts
--| 1,1,2020-01-01 00:00:01
--| 2,2,2020-01-01 00:00:02
--| 3,4,2020-01-01 00:00:21
--| 4,8,2020-01-01 00:00:05
--| 5,16,2020-01-01 00:00:40
--| 6,32,2020-01-01 00:00:41
--! expect sums
--| 2020-01-01 00:00:10 | 11 | 11
--| 2020-01-01 00:00:30 | 4 | 15
--| 2020-01-01 00:00:50 | 48 | 52
--! expect back
--| 2020-01-01 00:00:00 | 3 | 11
--| 2020-01-01 00:00:20 | 1 | 15
--| 2020-01-01 00:00:40 | 2 | 63
--! late none
CREATE TABLE t (id INT, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE sums (e TIMESTAMP(3), s INT, both INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'sums');
CREATE TABLE back (w TIMESTAMP(3), n BIGINT, s INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'back');
CREATE TEMPORARY VIEW running AS SELECT ts, SUM(v) OVER (ORDER BY ts) AS s FROM t;
INSERT INTO sums SELECT window_end, s, SUM(s) OVER (ORDER BY window_time ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM (SELECT window_end, window_time, SUM(v) AS s FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end, window_time);
INSERT INTO back SELECT window_start, COUNT(*), MAX(s) FROM TABLE(TUMBLE(TABLE running, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end;
