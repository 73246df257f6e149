-- Policy `null`: a field that cannot be read is NULL, the row stays.
--! input t.csv
--| a,b
--| word,y
--| 4,w
--! expect out
--| NULL | y
--| 4 | w
CREATE TABLE t (a INT, b STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'dead-letter.policy' = 'null');
CREATE TABLE o (a INT, b STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT a, b FROM t;
