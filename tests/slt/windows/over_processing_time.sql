-- Frames of processing time: what came within a day is all that came before, in the order in which it came.
--! input t.csv
--| id,k,v
--| 1,a,10
--| 2,b,20
--| 3,a,-5
--| 4,,7
--| 5,a,
--| 6,b,1
--| 7,,3
--! expect out
--| 1 | a | 1 | 10 | 10
--| 2 | b | 1 | 20 | 20
--| 3 | a | 2 | 5 | 10
--| 4 | NULL | 1 | 7 | 7
--| 5 | a | 3 | 5 | 10
--| 6 | b | 2 | 21 | 20
--| 7 | NULL | 2 | 10 | 7
CREATE TABLE t (id BIGINT, k STRING, v BIGINT, p AS PROCTIME()) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = '');
CREATE TABLE out (id BIGINT, k STRING, n BIGINT, s BIGINT, m BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO out SELECT id, k, COUNT(*) OVER w, SUM(v) OVER w, MAX(v) OVER w
  FROM t WINDOW w AS (PARTITION BY k ORDER BY p RANGE BETWEEN INTERVAL '1' DAY PRECEDING AND CURRENT ROW);
