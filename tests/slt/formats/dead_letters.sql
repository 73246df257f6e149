-- By default a record that cannot be decoded is put aside and counted: a word for a number, a line with a cell too many.
--! input t.csv
--| a,b
--| 1,x
--| word,y
--| 3,z,too many
--| 4,w
--! dead-letters 2
--! expect out
--| 1 | x
--| 4 | w
CREATE TABLE t (a INT, b STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (a INT, b STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT a, b FROM t;
