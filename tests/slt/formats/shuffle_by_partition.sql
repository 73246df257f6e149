-- The rows of a partition are written by one subtask, so into one file of an epoch; and a table may ask for more writers than the job has.
--! input in/a.csv
--| a,k
--| 1,x
--| 2,y
--! input in/b.csv
--| a,k
--| 3,x
--| 4,y
--! expect out
--| 1 | x
--| 2 | y
--| 3 | x
--| 4 | y
--! expect wide
--| 1
--| 2
--| 3
--| 4
CREATE TABLE t (a INT, k STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'in');
CREATE TABLE o (a INT, k STRING) PARTITIONED BY (k) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out', 'sink.shuffle-by-partition.enable' = 'true');
CREATE TABLE w (a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'wide', 'sink.parallelism' = '4');
INSERT INTO o SELECT a, k FROM t;
INSERT INTO w SELECT a FROM t;
