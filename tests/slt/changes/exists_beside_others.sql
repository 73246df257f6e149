-- EXISTS and IN under OR and in a CASE, beside conditions of the row itself; a key that is NULL has no partner.
--! input t.csv
--| id,k,v
--| 1,a,10
--| 2,b,20
--| 3,a,10
--| 4,,5
--| 5,c,
--| 6,b,30
--| 7,d,3
--! input u.csv
--| k,w
--| a,15
--| b,5
--| d,1
--| ,9
--| a,5
--! changes either
--| 1
--| 2
--| 3
--| 6
--| 7
--! changes neither
--| 4
--| 5
--! changes within
--| 1
--| 3
--| 6
--! changes cases
--| 2
--| 6
--| 7
--! changes same
--| 1
--| 2
--| 3
--| 6
SET 'execution.checkpointing.interval' = '5 ms';
CREATE TABLE t (id BIGINT, k STRING, v BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = '');
CREATE TABLE u (k STRING, w BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'u.csv', 'csv.null-literal' = '');
CREATE TABLE either (id BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'either', 'sink.changelog' = 'log');
CREATE TABLE neither (id BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'neither', 'sink.changelog' = 'log');
CREATE TABLE within (id BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'within', 'sink.changelog' = 'log');
CREATE TABLE cases (id BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'cases', 'sink.changelog' = 'log');
INSERT INTO either SELECT id FROM t WHERE v > 25 OR EXISTS (SELECT 1 FROM u WHERE u.k = t.k);
INSERT INTO neither SELECT id FROM t WHERE v = 5 OR NOT EXISTS (SELECT w FROM u WHERE u.k = t.k);
INSERT INTO within SELECT id FROM t WHERE v = 30 OR k IN (SELECT k FROM u WHERE w > 10);
INSERT INTO cases SELECT id FROM t WHERE CASE WHEN v > 10 THEN EXISTS (SELECT * FROM u WHERE u.k = t.k) ELSE v = 3 END;
CREATE TABLE same (id BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'same', 'sink.changelog' = 'log');
INSERT INTO same SELECT id FROM t WHERE v = 10 OR k IN (SELECT k FROM t WHERE v > 25);
