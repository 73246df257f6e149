-- Joins of all kinds with a condition beside the keys; a NULL key meets nothing.
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
--| id,k,w
--| 100,a,15
--| 101,b,5
--| 102,d,1
--| 103,,9
--| 104,a,5
--! expect inner_rows
--| 1 | 100
--| 3 | 100
--! changes left_rows
--| 1 | 100
--| 3 | 100
--| 2 | NULL
--| 4 | NULL
--| 5 | NULL
--| 6 | NULL
--| 7 | NULL
--| 8 | NULL
--! changes full_rows
--| 1 | 100
--| 3 | 100
--| 2 | NULL
--| 4 | NULL
--| 5 | NULL
--| 6 | NULL
--| 7 | NULL
--| 8 | NULL
--| NULL | 101
--| NULL | 102
--| NULL | 103
--| NULL | 104
--! changes semi_rows
--| 1
--| 3
--! changes anti_rows
--| 2
--| 4
--| 5
--| 6
--| 7
--| 8
SET 'execution.checkpointing.interval' = '5 ms';
CREATE TABLE t (id BIGINT, k STRING, v BIGINT, f DOUBLE) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = '');
CREATE TABLE u (id BIGINT, k STRING, w BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'u.csv', 'csv.null-literal' = '');
CREATE TABLE inner_rows (t BIGINT, u BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'inner_rows');
CREATE TABLE left_rows (t BIGINT, u BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'left_rows', 'sink.changelog' = 'log');
CREATE TABLE full_rows (t BIGINT, u BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'full_rows', 'sink.changelog' = 'log');
CREATE TABLE semi_rows (t BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'semi_rows', 'sink.changelog' = 'log');
CREATE TABLE anti_rows (t BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'anti_rows', 'sink.changelog' = 'log');
CREATE VIEW both_sides AS SELECT k, w, id FROM u;
INSERT INTO inner_rows SELECT t.id, u.id FROM t JOIN u ON t.k = u.k AND t.v < u.w;
INSERT INTO left_rows SELECT t.id, u.id FROM t LEFT JOIN u ON t.k = u.k AND t.v < u.w;
INSERT INTO full_rows SELECT t.id, u.id FROM t FULL JOIN u ON t.k = u.k AND t.v < u.w;
INSERT INTO semi_rows SELECT id FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.k = t.k AND t.v < u.w);
INSERT INTO anti_rows SELECT id FROM t WHERE NOT EXISTS (SELECT 1 FROM u WHERE u.k = t.k AND t.v < u.w);
