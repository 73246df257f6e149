-- Windows of ten seconds that begin at second 3: 1 belongs to [-7,3), 3 to [3,13).
--! input t.csv
--| ts
--| 2013-01-01 00:00:01
--| 2013-01-01 00:00:03
--| 2013-01-01 00:00:12.999
--! expect out
--| 2012-12-31 23:59:53 | 1
--| 2013-01-01 00:00:03 | 2
CREATE TABLE t (ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (s TIMESTAMP(3), n BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT window_start, COUNT(*) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '3' SECOND)) GROUP BY window_start, window_end;
