-- Several inserts of one script, two of them into the same table; all commit together.
--! input t.csv
--| a
--| 1
--| 2
--| 3
--! expect odd
--| 1
--| 3
--! expect all
--| 1
--| 2
--| 3
--| 100
CREATE TABLE t (a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE odd (a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'odd');
CREATE TABLE everything (a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'all');
EXECUTE STATEMENT SET BEGIN
  INSERT INTO odd SELECT a FROM t WHERE a % 2 = 1;
  INSERT INTO everything SELECT a FROM t;
  INSERT INTO everything SELECT a * 100 FROM t WHERE a = 1;
END;
