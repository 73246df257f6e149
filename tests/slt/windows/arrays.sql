-- All values of a window, in any order.
--! arrays unordered
--! input t.csv
--| ts,s
--| 2013-01-01 00:00:01,a
--| 2013-01-01 00:00:02,b
--| 2013-01-01 00:00:11,c
--! expect out
--| ["a","b"]
--| ["c"]
CREATE TABLE t (ts TIMESTAMP(3), s STRING, WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (a ARRAY<STRING>) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
INSERT INTO o SELECT ARRAY_AGG(s) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end;
