-- The first rows of all: by an order, behind some that are skipped, of rows that change, and however they come.
--! input t.csv
--| id,k,v
--| 1,a,10
--| 2,b,20
--| 3,a,30
--| 4,c,25
--| 5,c,
--| 6,b,20
--! changes most
--| 3 | 30
--| 4 | 25
--! changes behind
--| 2
--| 6
--! changes sums
--| a | 40
--| b | 40
--! expect some
--| here
--| here
SET 'execution.checkpointing.interval' = '5 ms';
CREATE TABLE t (id BIGINT, k STRING, v BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = '');
CREATE TABLE most (id BIGINT, v BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'most', 'sink.changelog' = 'log');
CREATE TABLE behind (id BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'behind', 'sink.changelog' = 'log');
CREATE TABLE sums (k STRING, v BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'sums', 'sink.changelog' = 'log');
CREATE TABLE some (x STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'some');
EXECUTE STATEMENT SET BEGIN
  INSERT INTO most SELECT id, v FROM t ORDER BY v DESC LIMIT 2;
  INSERT INTO behind SELECT id FROM t ORDER BY v DESC, id LIMIT 2 OFFSET 2;
  INSERT INTO sums SELECT k, SUM(v) FROM t GROUP BY k ORDER BY SUM(v) DESC LIMIT 2;
  INSERT INTO some SELECT 'here' FROM t LIMIT 2;
END;
