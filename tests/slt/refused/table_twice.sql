--! error E0108
CREATE TABLE t (a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE t (b INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
