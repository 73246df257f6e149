-- Options of a table stand in its declaration.
--! error E0102 at 6:32
--! message behind SELECT
CREATE TABLE t (id BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (id BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT id FROM t /*+ OPTIONS('path' = 'u.csv') */;
