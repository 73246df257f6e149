-- The groups of a window with the most rows, whose number is a value of the same window: rows that are final.
--! input t.csv
--| ts,k
--| 2013-01-01 00:00:01,a
--| 2013-01-01 00:00:02,b
--| 2013-01-01 00:00:03,a
--| 2013-01-01 00:00:11,c
--| 2013-01-01 00:00:12,b
--| 2013-01-01 00:00:21,b
--! expect out
--| 0 | a | 2
--| 10 | b | 1
--| 10 | c | 1
--| 20 | b | 1
CREATE TABLE t (ts TIMESTAMP(3), k STRING, WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE VIEW counts AS
  SELECT k, COUNT(*) AS n, window_start, window_end FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND))
  GROUP BY k, window_start, window_end;
CREATE TABLE out (s BIGINT, k STRING, n BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO out
SELECT SECOND(a.window_start), k, n FROM counts AS a
WHERE n >= (SELECT MAX(n) FROM counts AS b WHERE b.window_start = a.window_start AND b.window_end = a.window_end);
