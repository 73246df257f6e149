-- NaN is above all other values wherever it stands among the rows; -0.0 and 0.0 are one value and tie in an order.
--! input t.csv
--| ts,k,n,x
--| 2013-01-01 00:00:01,a,1,NaN
--| 2013-01-01 00:00:02,a,1,2.5
--| 2013-01-01 00:00:03,a,1,-1.5
--| 2013-01-01 00:00:04,b,2,0.5
--| 2013-01-01 00:00:05,b,2,NaN
--| 2013-01-01 00:00:06,b,2,NaN
--| 2013-01-01 00:00:07,c,3,0.0
--| 2013-01-01 00:00:08,c,3,-0.0
--| 2013-01-01 00:00:09,d,4,NaN
--! expect by_text
--| a | -1.5 | NaN | -1.5 | 3 | 00:00:03,00:00:02,00:00:01
--| b | 0.5 | NaN | 0.5 | 2 | 00:00:04,00:00:05,00:00:06
--| c | 0.0 | 0.0 | 0.0 | 1 | 00:00:07,00:00:08
--| d | NaN | NaN | NaN | 1 | 00:00:09
--! expect by_number
--| 1 | -1.5 | NaN
--| 2 | 0.5 | NaN
--| 3 | 0.0 | 0.0
--| 4 | NaN | NaN
--! expect first
--| c | 00:00:07
--| a | 00:00:03
CREATE TABLE t (ts TIMESTAMP(3), k STRING, n INT, x DOUBLE, s AS DATE_FORMAT(ts, 'HH:mm:ss'), WATERMARK FOR ts AS ts)
WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE by_text (k STRING, lo DOUBLE, hi DOUBLE, flo FLOAT, d BIGINT, l STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'by_text');
CREATE TABLE by_number (n INT, lo DOUBLE, hi DOUBLE) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'by_number');
CREATE TABLE first_two (k STRING, s STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'first');
INSERT INTO by_text SELECT k, MIN(x) + 0, MAX(x) + 0, MIN(CAST(x AS FLOAT)) + 0, COUNT(DISTINCT x), LISTAGG(s ORDER BY x, ts)
FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end, k;
INSERT INTO by_number SELECT n, MIN(x) + 0, MAX(x) + 0 FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end, n;
INSERT INTO first_two SELECT k, s FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY x, ts) AS place
FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND))) WHERE place <= 2;
