--! error E0201
--! hint filesystem
CREATE TABLE t (a INT) WITH ('connector' = 'filesystm', 'path' = 't.csv', 'format' = 'csv');
CREATE TABLE o (a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT a FROM t;
