-- Each would take the place of what the other has made.
--! input t/1.csv
--| k,v
--| 1,2
--! error E0205
--! message `a` is kept by its key, and this script writes to it twice
CREATE TABLE t (k INT, v INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't');
CREATE TABLE a (k INT, v INT, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out', 'sink.changelog' = 'table');
CREATE TABLE b (k INT, v INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = './out/');
INSERT INTO a SELECT k, v FROM t;
INSERT INTO b SELECT k, v FROM t;
