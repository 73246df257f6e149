-- A third and two thirds, rounded half up at the sixth place, also below zero; a window without values has none.
--! input t.csv
--| ts,v
--| 2013-01-01 00:00:01,1.00
--| 2013-01-01 00:00:02,1.00
--| 2013-01-01 00:00:03,0.00
--| 2013-01-01 00:00:11,-1.00
--| 2013-01-01 00:00:12,-1.00
--| 2013-01-01 00:00:13,0.00
--| 2013-01-01 00:00:21,0.01
--| 2013-01-01 00:00:22,0.00
--| 2013-01-01 00:00:23,
--| 2013-01-01 00:00:31,
--! expect out
--| 2013-01-01 00:00:00 | 0.666667 | 0.67
--| 2013-01-01 00:00:10 | -0.666667 | -0.67
--| 2013-01-01 00:00:20 | 0.005000 | 0.01
--| 2013-01-01 00:00:30 | NULL | NULL
CREATE TABLE t (ts TIMESTAMP(3), v DECIMAL(10, 2), WATERMARK FOR ts AS ts)
WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = '');
CREATE TABLE o (s TIMESTAMP(3), a DECIMAL(20, 6), b DECIMAL(20, 2)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT window_start, AVG(v), AVG(v) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end;
