-- Which of the two is meant?
--! input t.csv
--| a,b,b
--| 1,2,3
--! error E0209
CREATE TABLE t (a INT, b INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (a INT, b INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT * FROM t;
