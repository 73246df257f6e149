-- PRINTF with Java's formats, and MAP_UNION, where the last map wins.
--! input t.csv
--| i,d,s,b
--| 7,1234567.891,x,true
--| -42,0.5,,false
--| ,,y,
--! expect out
--| 0007/1,234,567.89/x/true | 1.23457e+06 | NULL
--| -042/0.50//false | 0.500000 | NULL
--| null/null/y/null | null | NULL
--! expect maps
--| {"a":1,"b":7,"c":3} | {"k":"v"} | NULL
--| {"a":1,"b":-42,"c":3} | {"k":"v"} | NULL
--| {"a":1,"b":null,"c":3} | {"k":"v"} | NULL
CREATE TABLE t (i INT, d DOUBLE, s STRING, b BOOLEAN) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (x STRING, y STRING, z STRING) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
CREATE TABLE m (x MAP<STRING, BIGINT>, y MAP<STRING, STRING>, z MAP<STRING, BIGINT>) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'maps');
INSERT INTO o SELECT PRINTF('%04d/%,.2f/%s/%s', i, d, s, b), PRINTF('%.6g', d), PRINTF('%d', s) FROM t;
INSERT INTO m SELECT MAP_UNION(MAP['a', 1, 'b', 2], MAP['b', i], MAP['c', 3]), MAP_UNION(MAP['k', 'v']), MAP_UNION(MAP['a', 1], CAST(NULL AS MAP<STRING, INT>)) FROM t;
