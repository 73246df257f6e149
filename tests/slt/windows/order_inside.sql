-- The same aggregate in several orders and over several rows, and an order that names a column twice.
--! input t.csv
--| ts,k,v
--| 2013-01-01 00:00:01,x,3
--| 2013-01-01 00:00:02,y,1
--| 2013-01-01 00:00:03,x,2
--! expect out
--| y,x,x | x,x,y | x,y | x | y | 3 | 0.25
CREATE TABLE t (ts TIMESTAMP(3), k STRING, v INT, WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (a STRING, b STRING, c STRING, d STRING, e STRING, f INT, g DOUBLE) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT LISTAGG(k ORDER BY v), LISTAGG(k ORDER BY k, v, k), LISTAGG(DISTINCT k ORDER BY k), FIRST_VALUE(k ORDER BY ts, ts DESC), NTH_VALUE(k, 1 ORDER BY v, v), NTH_VALUE(v, 3 ORDER BY v, ts, v),
  VAR_POP(v) FILTER (WHERE k = 'x')
FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end;
