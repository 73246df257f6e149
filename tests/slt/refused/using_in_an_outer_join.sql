--! error E0102
--! hint COALESCE(a.k, b.k)
CREATE TABLE t (a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT a FROM t LEFT JOIN t AS u USING (a);
