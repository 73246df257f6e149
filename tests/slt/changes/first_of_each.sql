-- One row of each key: the first to come stays, and what is final goes into a folder of final rows.
--! input t.csv
--| id,k
--| 1,a
--| 2,b
--| 3,a
--| 4,b
--| 5,
--| 6,
--! expect keys
--| a
--| b
--| NULL
CREATE TABLE t (id BIGINT, k STRING, p AS PROCTIME()) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = '');
CREATE TABLE keys (k STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'keys', 'csv.null-literal' = '\N');
INSERT INTO keys SELECT k FROM (SELECT k, ROW_NUMBER() OVER (PARTITION BY k ORDER BY p) AS n FROM t) WHERE n = 1;
