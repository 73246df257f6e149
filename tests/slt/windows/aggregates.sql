-- Values 1, 2, 3, 4 and a NULL. Average of integers 10/4 = 2; of doubles 2.5; variance of the population 1.25, of a sample 5/3; median 2.5.
--! input t.csv
--| ts,v,d
--| 2013-01-01 00:00:01,1,1
--| 2013-01-01 00:00:02,2,2
--| 2013-01-01 00:00:03,3,3
--| 2013-01-01 00:00:04,NA,NA
--| 2013-01-01 00:00:05,4,4
--! expect out
--| 2 | 2.5 | 1.118033988749895 | 1.25 | 1.6666666666666667 | 4 | true
CREATE TABLE t (ts TIMESTAMP(3), v INT, d DOUBLE, WATERMARK FOR ts AS ts)
WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = 'NA');
CREATE TABLE o (a INT, b DOUBLE, c DOUBLE, d DOUBLE, e DOUBLE, f BIGINT, g BOOLEAN) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT AVG(v), AVG(d), STDDEV_POP(v), VAR_POP(v), VAR_SAMP(v), APPROX_DISTINCT(v), BOOL_AND(v > 0)
FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end;
