-- Counts of ten seconds, and the greatest of them in each minute: 2 in the first, 1 in the second.
--! input t.csv
--| ts
--| 2013-01-01 00:00:01
--| 2013-01-01 00:00:02
--| 2013-01-01 00:00:15
--| 2013-01-01 00:01:05
--! expect out
--| 2013-01-01 00:00:00 | 2
--| 2013-01-01 00:01:00 | 1
CREATE TABLE t (ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (w TIMESTAMP(3), m BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
CREATE VIEW tens AS SELECT window_time AS rt, COUNT(*) AS n
FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end, window_time;
INSERT INTO o SELECT window_start, MAX(n) FROM TABLE(TUMBLE(TABLE tens, DESCRIPTOR(rt), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end;
