-- The same column as it is and cast are two different aggregates: 3/2 is 1 as INT and 1.5 as DOUBLE.
--! input t.csv
--| ts,v
--| 2013-01-01 00:00:01,1
--| 2013-01-01 00:00:02,2
--! expect out
--| 1 | 1.5
CREATE TABLE t (ts TIMESTAMP(3), v INT, WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (a INT, b DOUBLE) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT AVG(v) AS a, AVG(CAST(v AS DOUBLE)) AS b
FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end;
