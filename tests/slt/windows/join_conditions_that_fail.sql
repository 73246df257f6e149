-- A condition on a join's key is not asked of the other side's rows without a partner.
--! input t.csv
--| id,k,ts
--| 1,1,2024-01-01 00:00:01
--| 2,7,2024-01-01 00:00:02
--| 3,x,2024-01-01 00:00:03
--! input u.csv
--| n,k,ts
--| 1,1,2024-01-01 00:00:01
--| 3,7,2024-01-01 00:00:02
--| 0,abc,2024-01-01 00:00:03
--! expect out
--| 2 | 3
CREATE TABLE t (id INT, k STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE u (n INT, k STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'u.csv');
CREATE TABLE o (a INT, b INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT x.id, y.n FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR)) AS x
  JOIN TABLE(TUMBLE(TABLE u, DESCRIPTOR(ts), INTERVAL '1' HOUR)) AS y ON x.window_start = y.window_start AND x.window_end = y.window_end AND x.k = y.k
  WHERE x.k <> 'x' AND CAST(x.k AS INT) > 5;
