-- Policy `fail`: the job ends with the record's error, and nothing is committed.
--! input t.csv
--| a,b
--| 1,x
--| word,y
--! expect out
--! error E0210
--! hint dead-letter.policy
CREATE TABLE t (a INT, b STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'dead-letter.policy' = 'fail');
CREATE TABLE o (a INT, b STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT a, b FROM t;
