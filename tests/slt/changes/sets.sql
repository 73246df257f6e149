-- DISTINCT, UNION, INTERSECT and EXCEPT: NULL is a value like others.
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
--! input u.csv
--| id,k
--| 1,a
--| 2,d
--| 3,
--| 4,d
--! changes keys
--| a
--| b
--| c
--| NULL
--! changes all_keys
--| a
--| b
--| c
--| d
--| NULL
--! changes common
--| a
--| NULL
--! changes others
--| b
--| c
SET 'execution.checkpointing.interval' = '5 ms';
CREATE TABLE t (id BIGINT, k STRING, v BIGINT, f DOUBLE) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = '');
CREATE TABLE u (id BIGINT, k STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'u.csv', 'csv.null-literal' = '');
CREATE TABLE keys (k STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'keys', 'sink.changelog' = 'log');
CREATE TABLE all_keys (k STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'all_keys', 'sink.changelog' = 'log');
CREATE TABLE common (k STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'common', 'sink.changelog' = 'log');
CREATE TABLE others (k STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'others', 'sink.changelog' = 'log');
INSERT INTO keys SELECT DISTINCT k FROM t;
INSERT INTO all_keys SELECT k FROM t UNION SELECT k FROM u;
INSERT INTO common SELECT k FROM t INTERSECT SELECT k FROM u;
INSERT INTO others SELECT k FROM t EXCEPT SELECT k FROM u;
