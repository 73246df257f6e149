-- Ten seconds every five: a row at 7 is in [0,10) and [5,15).
--! input t.csv
--| ts,v
--| 2013-01-01 00:00:07,1
--| 2013-01-01 00:00:12,2
--! expect out
--| 2013-01-01 00:00:00 | 1
--| 2013-01-01 00:00:05 | 3
--| 2013-01-01 00:00:10 | 2
CREATE TABLE t (ts TIMESTAMP(3), v INT, WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (s TIMESTAMP(3), t BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT window_start, SUM(v) FROM TABLE(HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '10' SECOND)) GROUP BY window_start, window_end;
