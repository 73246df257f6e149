-- What is read must stay what it is.
--! input top.csv
--| k,v
--| 1,2
--! error E0205
--! message `a` cannot be overwritten while `t` is read from its folder
CREATE TABLE t (k INT, v INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'top.csv');
CREATE TABLE a (k INT, v INT, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'top.csv', 'sink.changelog' = 'table');
INSERT OVERWRITE a SELECT k, v FROM t;
