-- Rows with a NULL key are one group, and the empty text is another.
--! input t.csv
--| ts,k,n
--| 2013-01-01 00:00:01,NA,1
--| 2013-01-01 00:00:02,NA,1
--| 2013-01-01 00:00:03,,1
--| 2013-01-01 00:00:03,,NA
--! expect out
--| NULL | 1 | 2
--| '' | 1 | 1
--| '' | NULL | 1
CREATE TABLE t (ts TIMESTAMP(3), k STRING, n INT, WATERMARK FOR ts AS ts)
WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = 'NA');
CREATE TABLE o (k STRING, n INT, c BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT k, n, COUNT(*) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end, k, n;
