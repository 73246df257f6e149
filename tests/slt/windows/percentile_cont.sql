-- Between 0 and 1000000 the percentile 0.1234567 lies at 123456.7, from above at 876543.3; NULL is no value.
--! input t.csv
--| ts,k,x
--| 2013-01-01 00:00:01,a,1000000
--| 2013-01-01 00:00:02,a,NIL
--| 2013-01-01 00:00:03,a,0
--| 2013-01-01 00:00:04,b,NIL
--| 2013-01-01 00:00:05,c,7
--! expect out
--| a | 123456.7 | 876543.3 | 500000 | 250000
--| b | NULL | NULL | NULL | NULL
--| c | 7 | 7 | 7 | 7
CREATE TABLE t (ts TIMESTAMP(3), k STRING, x DOUBLE, WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = 'NIL');
CREATE TABLE o (k STRING, a DOUBLE, b DOUBLE, c DOUBLE, d DOUBLE) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT k, PERCENTILE_CONT(0.1234567) WITHIN GROUP (ORDER BY x), PERCENTILE_CONT(0.1234567) WITHIN GROUP (ORDER BY x DESC), MEDIAN(x), PERCENTILE_CONT(0.25) WITHIN GROUP (ORDER BY x)
FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end, k;
