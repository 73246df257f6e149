-- INSERT OVERWRITE of a partitioned table replaces the partitions that get rows and leaves the others.
--! input t.csv
--| a,k
--| 1,x
--| 2,y
--| 3,z
--! expect out
--| 10 | x
--| 2 | y
--| 7 | z
CREATE TABLE t (a INT, k STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (a INT, k STRING) PARTITIONED BY (k) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT a, k FROM t;
--! then
CREATE TABLE t (a INT, k STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (a INT, k STRING) PARTITIONED BY (k) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT OVERWRITE o SELECT a * 10, k FROM t WHERE a = 1;
--! then
CREATE TABLE o (a INT, k STRING) PARTITIONED BY (k) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT OVERWRITE o PARTITION (k = 'z') VALUES (7);
