-- A filter over groups, and one group of all rows.
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
--| a | 60
--| b | 50
--! changes whole
--| 8 | 120 | 4
SET 'execution.checkpointing.interval' = '5 ms';
CREATE TABLE t (id BIGINT, k STRING, v BIGINT, f DOUBLE) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = '');
CREATE TABLE out (k STRING, s BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out', 'sink.changelog' = 'log');
CREATE TABLE whole (n BIGINT, s BIGINT, keys BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'whole', 'sink.changelog' = 'log');
INSERT INTO out SELECT k, SUM(v) FROM t GROUP BY k HAVING SUM(v) > 20;
INSERT INTO whole SELECT COUNT(*), SUM(v), COUNT(DISTINCT COALESCE(k, '')) FROM t;
