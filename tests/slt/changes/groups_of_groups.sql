-- Rows of the inner aggregation are taken back from the outer one.
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
--| 1 | 1 | c | c | 1
--| 2 | 1 | b | b | 1
--| 3 | 1 | a | a | 1
SET 'execution.checkpointing.interval' = '5 ms';
CREATE TABLE t (id BIGINT, k STRING, v BIGINT, f DOUBLE) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = '');
CREATE TABLE out (n BIGINT, groups BIGINT, lo STRING, hi STRING, d BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out', 'sink.changelog' = 'log');
INSERT INTO out SELECT n, COUNT(*), MIN(k), MAX(k), COUNT(DISTINCT k) FROM (SELECT k, COUNT(*) AS n FROM t WHERE k IS NOT NULL GROUP BY k) GROUP BY n;
