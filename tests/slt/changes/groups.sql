-- Aggregates without a window: a group for NULL too, NULL values left out, FILTER and DISTINCT.
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
--| a | 3 | 3 | 60 | 20 | 2 | 10 | 40 | 8.5 | 1
--| b | 2 | 2 | 50 | 25 | 2 | 20 | 30 | 1.75 | 2
--| c | 1 | 0 | NULL | NULL | 0 | NULL | NULL | -1.0 | 0
--| NULL | 2 | 2 | 10 | 5 | 1 | 5 | 5 | 3.0 | 0
SET 'execution.checkpointing.interval' = '5 ms';
CREATE TABLE t (id BIGINT, k STRING, v BIGINT, f DOUBLE) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = '');
CREATE TABLE out (k STRING, n BIGINT, nv BIGINT, s BIGINT, a BIGINT, d BIGINT, lo BIGINT, hi BIGINT, fs DOUBLE, big BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out', 'sink.changelog' = 'log');
INSERT INTO out SELECT k, COUNT(*), COUNT(v), SUM(v), AVG(v), COUNT(DISTINCT v), MIN(v), MAX(v), SUM(f), COUNT(*) FILTER (WHERE v > 15) FROM t GROUP BY k;
