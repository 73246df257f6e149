-- Subqueries that stand for one value: of all rows or of those with a key, in a filter and as a column. Over no rows COUNT is 0
-- and the others are NULL.
--! input t.csv
--| id,k,v
--| 1,a,10
--| 2,b,20
--| 3,a,10
--| 4,,5
--| 5,c,
--| 6,b,30
--! input u.csv
--| id,k,w
--| 100,a,15
--| 101,b,5
--| 102,d,1
--| 103,,9
--| 104,a,5
--! input e.csv
--| x
--! changes above
--| 1
--| 2
--| 3
--| 6
--! changes more
--| 1 | 5
--| 2 | 15
--| 3 | 5
--| 4 | 0
--| 5 | NULL
--| 6 | 25
--! changes most
--| 2
--| 6
--! changes counted
--| 1 | 2
--| 2 | 1
--| 3 | 2
--| 4 | 0
--| 5 | 0
--| 6 | 1
--! changes nothing
--| 1 | 1 | NULL | NULL
--| 2 | 1 | NULL | NULL
--! changes ones
--| 1
--| 1
--| 1
--| 1
--| 1
--| 1
SET 'execution.checkpointing.interval' = '5 ms';
CREATE TABLE t (id BIGINT, k STRING, v BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = '');
CREATE TABLE u (id BIGINT, k STRING, w BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'u.csv', 'csv.null-literal' = '');
CREATE TABLE e (x BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'e.csv');
CREATE TABLE above (id BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'above', 'sink.changelog' = 'log');
CREATE TABLE more (id BIGINT, v BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'more', 'sink.changelog' = 'log');
CREATE TABLE most (id BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'most', 'sink.changelog' = 'log');
CREATE TABLE counted (id BIGINT, n BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'counted', 'sink.changelog' = 'log');
CREATE TABLE nothing (id BIGINT, n BIGINT, x BIGINT, w BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'nothing', 'sink.changelog' = 'log');
CREATE TABLE ones (x INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'ones', 'sink.changelog' = 'log');
INSERT INTO ones SELECT 1 FROM t WHERE (SELECT COUNT(*) FROM u) > 4;
INSERT INTO above SELECT id FROM t WHERE v > (SELECT AVG(w) FROM u);
INSERT INTO more SELECT id, v - (SELECT MIN(v) FROM t) FROM t;
INSERT INTO most SELECT id FROM t WHERE v >= (SELECT MAX(w) FROM u WHERE u.k = t.k);
INSERT INTO counted SELECT id, (SELECT COUNT(*) FROM u WHERE u.k = t.k) FROM t;
INSERT INTO nothing
SELECT id, (SELECT COUNT(*) + 1 FROM e), (SELECT MAX(x) FROM e), (SELECT MAX(w) FROM u HAVING COUNT(*) > 100) FROM t WHERE id < 3;
