-- The two highest of each key in each window.
--! input t.csv
--| ts,k,v
--| 2013-01-01 00:00:01,a,1
--| 2013-01-01 00:00:02,a,7
--| 2013-01-01 00:00:03,a,5
--| 2013-01-01 00:00:04,b,2
--| 2013-01-01 00:00:12,a,3
--! expect out
--| a | 7 | 1
--| a | 5 | 2
--| b | 2 | 1
--| a | 3 | 1
CREATE TABLE t (ts TIMESTAMP(3), k STRING, v INT, WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (k STRING, v INT, n BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT k, v, rn FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end, k ORDER BY v DESC) AS rn
  FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND))
) WHERE rn <= 2;
