-- INSERT OVERWRITE … PARTITION without rows empties the partition that it names, and no other.
--! input t.csv
--| a,k,n
--| 1,x,1
--| 2,y,1
--| 3,y,2
--! expect out
--| 1 | x | 1
--| 3 | y | 2
CREATE TABLE t (a INT, k STRING, n INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (a INT, k STRING, n INT) PARTITIONED BY (k, n) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT a, k, n FROM t;
--! then
CREATE TABLE t (a INT, k STRING, n INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (a INT, k STRING, n INT) PARTITIONED BY (k, n) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT OVERWRITE o PARTITION (n = 1, k = 'y') SELECT a FROM t WHERE a > 100;
