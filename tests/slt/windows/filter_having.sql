-- FILTER takes rows from one aggregate only; HAVING takes groups: b has one row and goes.
--! input t.csv
--| ts,k,v
--| 2013-01-01 00:00:01,a,1
--| 2013-01-01 00:00:02,a,5
--| 2013-01-01 00:00:03,b,9
--! expect out
--| a | 2 | 5 | 0
CREATE TABLE t (ts TIMESTAMP(3), k STRING, v INT, WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (k STRING, n BIGINT, s BIGINT, z BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT k, COUNT(*), SUM(v) FILTER (WHERE v > 1), COUNT(v) FILTER (WHERE v > 100)
FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end, k HAVING COUNT(*) > 1;
