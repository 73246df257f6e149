-- LISTAGG parts by a comma unless it is told otherwise and skips NULLs; with ORDER BY its answer is exact.
--! input t.csv
--| ts,k,v
--| 2024-01-01 00:00:01.000,a,x
--| 2024-01-01 00:00:02.000,a,
--| 2024-01-01 00:00:03.000,a,w
--| 2024-01-01 00:00:04.000,b,
--! expect out
--| a | w,x | x; w | 1
--| b | NULL | NULL | 0
CREATE TABLE t (ts TIMESTAMP(3), k STRING, v STRING, WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = '');
CREATE TABLE o (k STRING, a STRING, b STRING, c BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT k, LISTAGG(v ORDER BY v), LISTAGG(v, '; ' ORDER BY v DESC), COUNT(DISTINCT CHAR_LENGTH(v))
FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end, k;
