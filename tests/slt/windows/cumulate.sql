-- Ends at every 5 seconds up to 15: the row at 6 is in the windows that end at 10 and 15, the one at 1 in all three.
--! input t.csv
--| ts,v
--| 2013-01-01 00:00:01,1
--| 2013-01-01 00:00:06,2
--! expect out
--| 2013-01-01 00:00:00 | 2013-01-01 00:00:05 | 1
--| 2013-01-01 00:00:00 | 2013-01-01 00:00:10 | 3
--| 2013-01-01 00:00:00 | 2013-01-01 00:00:15 | 3
CREATE TABLE t (ts TIMESTAMP(3), v INT, WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (s TIMESTAMP(3), e TIMESTAMP(3), t BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT window_start, window_end, SUM(v) FROM TABLE(CUMULATE(TABLE t, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '15' SECOND)) GROUP BY window_start, window_end;
