-- m[k] where k is a number of another type than the keys; a percentile that is a constant expression.
--! input t.csv
--| id
--| 1
--! expect out
--| x | a | a | q | NULL | 1 | 1
CREATE TABLE t (id INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (a STRING, b STRING, c STRING, d STRING, e STRING, f INT, g INT) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
INSERT INTO o SELECT MAP[CAST(id AS BIGINT), 'x'][1], MAP[CAST(id AS TINYINT), 'a'][1], MAP[1.5, 'a'][1.50], MAP[id, 'q'][CAST(1 AS BIGINT)], MAP[id, 'r'][3000000000], MAP['a', 1]['a'], MAP['a', id][CONCAT('a', '')] FROM t;
