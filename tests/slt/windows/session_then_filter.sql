-- WHERE stands behind the window: the row it leaves out (4) still joins 1 and 8 into one session.
--! input t.csv
--| ts,v
--| 2013-01-01 00:00:01,1
--| 2013-01-01 00:00:04,0
--| 2013-01-01 00:00:08,1
--! expect out
--| 2013-01-01 00:00:01 | 2013-01-01 00:00:13 | 2
CREATE TABLE t (ts TIMESTAMP(3), v INT, WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (s TIMESTAMP(3), e TIMESTAMP(3), n BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT window_start, window_end, COUNT(*)
FROM TABLE(SESSION(TABLE t, DESCRIPTOR(ts), INTERVAL '5' SECOND)) WHERE v > 0 GROUP BY window_start, window_end;
