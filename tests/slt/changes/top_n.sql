-- The first rows of each key as more come: one, several with their numbers, ranks with ties, those behind the first,
-- and the first of groups that change.
--! input t.csv
--| id,k,v,name
--| 1,a,10,x
--| 2,b,20,y
--| 3,a,30,x
--| 4,a,20,y
--| 5,c,,z
--| 6,b,20,w
--| 7,a,30,u
--| 8,,5,u
--| 9,a,5,v
--! changes best
--| a | 30
--| b | 20
--| c | NULL
--| NULL | 5
--! changes two
--| a | 30 | 1
--| a | 30 | 2
--| b | 20 | 1
--| b | 20 | 2
--| c | NULL | 1
--| NULL | 5 | 1
--! changes ranked
--| a | 3 | 30 | 1
--| a | 7 | 30 | 1
--| a | 4 | 20 | 3
--| b | 2 | 20 | 1
--| b | 6 | 20 | 1
--| c | 5 | NULL | 1
--| NULL | 8 | 5 | 1
--! changes dense
--| a | 4 | 2
--| a | 1 | 3
--! changes second
--| a | 7
--| b | 6
--! changes largest
--| a | 5
--! changes between
--| 2 | 20
SET 'execution.checkpointing.interval' = '5 ms';
CREATE TABLE t (id BIGINT, k STRING, v BIGINT, name STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = '');
CREATE TABLE best (k STRING, v BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'best', 'sink.changelog' = 'log');
CREATE TABLE two (k STRING, v BIGINT, n BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'two', 'sink.changelog' = 'log');
CREATE TABLE ranked (k STRING, id BIGINT, v BIGINT, n BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'ranked', 'sink.changelog' = 'log');
CREATE TABLE dense (k STRING, id BIGINT, n BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'dense', 'sink.changelog' = 'log');
CREATE TABLE second (k STRING, id BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'second', 'sink.changelog' = 'log');
CREATE TABLE largest (k STRING, n BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'largest', 'sink.changelog' = 'log');
CREATE TABLE `between` (id BIGINT, v BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'between', 'sink.changelog' = 'log');
EXECUTE STATEMENT SET BEGIN
  INSERT INTO best SELECT k, v FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY v DESC) AS n FROM t) WHERE n = 1;
  INSERT INTO two SELECT k, v, n FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY v DESC) AS n FROM t) WHERE n <= 2;
  INSERT INTO ranked SELECT k, id, v, n FROM (SELECT *, RANK() OVER (PARTITION BY k ORDER BY v DESC) AS n FROM t) WHERE n <= 3;
  INSERT INTO dense SELECT k, id, n FROM (SELECT *, DENSE_RANK() OVER (PARTITION BY k ORDER BY v DESC) AS n FROM t) WHERE n BETWEEN 2 AND 3;
  INSERT INTO second SELECT k, id FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY v DESC, id) AS n FROM t) WHERE n = 2;
  INSERT INTO largest SELECT k, c FROM (
    SELECT *, ROW_NUMBER() OVER (ORDER BY c DESC) AS n FROM (SELECT k, COUNT(*) AS c FROM t GROUP BY k)
  ) WHERE n < 2;
  INSERT INTO `between` SELECT id, v FROM (
    SELECT *, ROW_NUMBER() OVER (PARTITION BY v ORDER BY id) AS n FROM t WHERE v > 15
  ) WHERE n = 1 AND v < 25;
END;
