--! error E0204
--! message path
CREATE TABLE t (a INT) WITH ('connector' = 'filesystem', 'format' = 'csv');
CREATE TABLE o (a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT a FROM t;
