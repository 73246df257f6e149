-- Exact numbers are compared with all of their digits, also where no DECIMAL has room for those of both.
--! input t.csv
--| id,d,l,e
--| 1,1.5,1000000000000,12345678901234567890.123456789012345678
--| 2,7.000000000000000000000000000000,7,7
--| 3,-0.000000000000000000000000000001,0,-0.000000000000000001
--! expect out
--| 1 | false | false | false | true | neither | 1.5 | false
--| 2 | false | false | true | true | l | NULL | true
--| 3 | false | true | false | false | neither | -0.0 | false
--! expect literals
--| 1 | false | true | true
--| 2 | false | true | true
--| 3 | false | false | false
CREATE TABLE t (id INT, d DECIMAL(38, 30), l BIGINT, e DECIMAL(38, 18)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (id INT, a BOOLEAN, b BOOLEAN, c BOOLEAN, d BOOLEAN, e STRING, f DOUBLE, g BOOLEAN) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT id, d > l, d > e, d IN (l, 1), d BETWEEN 0 AND l, CASE d WHEN l THEN 'l' WHEN e THEN 'e' ELSE 'neither' END, CAST(NULLIF(d, l) AS DOUBLE), d = e FROM t;
CREATE TABLE literals (id INT, a BOOLEAN, b BOOLEAN, c BOOLEAN) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'literals');
INSERT INTO literals SELECT id, d > 10000000000, l > 0.000000000000000000000000000001, e > 0.0000000000000000000000000000001 FROM t;
