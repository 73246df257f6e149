-- Folders by value; NULL and the empty text have folders of their own.
--! input t.csv
--| a,k
--| 1,x
--| 2,NA
--| 3,y
--| 4,x
--! expect out
--| 1 | x
--| 2 | NULL
--| 3 | y
--| 4 | x
CREATE TABLE t (a INT, k STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = 'NA');
CREATE TABLE o (a INT, k STRING) PARTITIONED BY (k) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT a, k FROM t;
