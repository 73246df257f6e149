-- Rows of a kept table are told apart by its key.
--! input t/1.csv
--| k,v
--| 1,2
--! error E0203
--! hint declare them: `PRIMARY KEY (…) NOT ENFORCED`
CREATE TABLE t (k INT, v INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't');
CREATE TABLE a (k INT, v INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out', 'sink.changelog' = 'table');
INSERT INTO a SELECT k, v FROM t;
