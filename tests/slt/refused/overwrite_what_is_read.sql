-- The old files would go with the first epoch, before all of them are read.
--! input data/t.csv
--| a
--| 1
--! error E0205 at o
--! hint another folder
--! message `t`
CREATE TABLE t (a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'data/*.csv');
CREATE TABLE o (a INT) WITH ('connector' = 'file', 'format' = 'csv', 'path' = './data/');
INSERT OVERWRITE o SELECT a + 1 FROM t;
