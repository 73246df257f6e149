-- A row of which an argument cannot be computed is a dead letter, and the others go on; a sum beyond the largest number
-- comes back when what made it so has left.
--! input t.csv
--| id,v,f,ts
--| 1,5,1e308,2020-01-01 00:00:01
--| 2,0,1e308,2020-01-01 00:00:02
--| 3,2,1e308,2020-01-01 00:00:03
--| 4,1,1,2020-01-01 00:00:04
--! expect out
--| 1 | 2
--| 3 | 7
--| 4 | 17
--! expect sums
--| 1 | 1e308
--| 2 | 1e308
--| 3 | 1e308
--| 4 | 1.0
--! dead-letters 1
SET 'execution.checkpointing.interval' = '5 ms';
CREATE TABLE t (id INT, v INT, f DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (id INT, s INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
CREATE TABLE sums (id INT, s DOUBLE) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'sums');
INSERT INTO o SELECT id, SUM(10 / v) OVER (ORDER BY ts) FROM t;
INSERT INTO sums SELECT id, SUM(f) OVER (ORDER BY ts ROWS BETWEEN CURRENT ROW AND CURRENT ROW) FROM t;
