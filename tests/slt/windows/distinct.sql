-- SELECT DISTINCT within a window: x once in each.
--! input t.csv
--| ts,s
--| 2013-01-01 00:00:01,x
--| 2013-01-01 00:00:02,x
--| 2013-01-01 00:00:12,x
--! expect out
--| 2013-01-01 00:00:00 | x
--| 2013-01-01 00:00:10 | x
CREATE TABLE t (ts TIMESTAMP(3), s STRING, WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (w TIMESTAMP(3), s STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT window_start, s FROM (SELECT DISTINCT window_start, window_end, s FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)));
