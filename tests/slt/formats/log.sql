-- One script writes a topic, a second one reads it to its end.
--! input t.csv
--| k,a
--| x,1
--| y,2
--| x,3
--! expect out
--| x | 1
--| y | 2
--| x | 3
CREATE TABLE t (k STRING, a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE l (k STRING, a INT) WITH ('connector' = 'log', 'topic' = 'numbers', 'partitions' = '3', 'key.fields' = 'k');
INSERT INTO l SELECT * FROM t;
--! then
CREATE TABLE l (k STRING, a INT) WITH ('connector' = 'log', 'topic' = 'numbers', 'scan.bounded.mode' = 'latest-offset');
CREATE TABLE o (k STRING, a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT * FROM l;
