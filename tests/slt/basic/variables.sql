-- `${NAME}` is filled from --set.
--! set least=2
--! input t.csv
--| a
--| 1
--| 2
--! expect out
--| 2
CREATE TABLE t (a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT a FROM t WHERE a >= ${least};
