--! error E0205
CREATE TABLE t (a INT) WITH ('connector' = 'print');
CREATE TABLE o (a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT a FROM t;
