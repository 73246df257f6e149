-- A join of rows that change with rows that are new, and what is counted of it: three tables, two of them aggregated.
--! input t.csv
--| id,k,v,f
--| 1,a,10,0.5
--| 2,b,20,1.5
--| 3,a,10,
--| 4,,5,2
--| 5,c,,-1
--| 6,b,30,0.25
--| 7,a,40,8
--| 8,,5,1
--! changes out
--| a | 60 | 10 | 3
--| b | 50 | 25 | 2
SET 'execution.checkpointing.interval' = '5 ms';
CREATE TABLE t (id BIGINT, k STRING, v BIGINT, f DOUBLE) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = '');
CREATE TABLE out (k STRING, s BIGINT, m BIGINT, n BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out', 'sink.changelog' = 'log');
INSERT INTO out
SELECT g.k, g.s, m.m, COUNT(*) FROM (SELECT k, SUM(v) AS s FROM t GROUP BY k) g
JOIN (SELECT k, MIN(v + id % 2 * 0) + CASE WHEN k = 'b' THEN 5 ELSE 0 END AS m FROM t GROUP BY k) m ON g.k = m.k
JOIN t ON t.k = g.k WHERE g.s > 10 GROUP BY g.k, g.s, m.m;
