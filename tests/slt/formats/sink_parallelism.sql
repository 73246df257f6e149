-- Fewer subtasks write than the job has: the rows are the same.
--! input t.csv
--| a
--| 1
--| 2
--| 3
--| 4
--! parallelism 3
--! expect one
--| 1
--| 2
--| 3
--| 4
--! expect two
--| 2
--| 4
CREATE TABLE t (a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'one', 'sink.parallelism' = '1');
CREATE TABLE p (a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'two', 'sink.parallelism' = '2');
INSERT INTO o SELECT a FROM t;
INSERT INTO p SELECT a FROM t WHERE a % 2 = 0;
