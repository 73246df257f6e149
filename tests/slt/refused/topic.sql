--! error E0308
CREATE TABLE t (a INT) WITH ('connector' = 'log', 'topic' = 'nowhere');
CREATE TABLE o (a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT a FROM t;
