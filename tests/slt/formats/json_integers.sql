-- A number is an integer by all of its digits, or it is none.
--! input t.json
--| {"id":1,"l":9007199254740993.0,"a":[1,2.0,3e0],"m":{"x":1.50e1},"r":{"i":7.000,"d":0.5}}
--| {"id":2.0,"l":-9.223372036854775808e18,"a":[],"m":{},"r":{"i":-0.0,"d":1e3}}
--| {"id":3.5,"l":1}
--| {"id":4,"l":123456789012345678.5}
--| {"id":5,"l":9223372036854775808.0}
--| {"id":6,"a":[1,2.5]}
--| {"id":7,"m":{"x":1e-1}}
--| {"id":8,"r":{"i":1.5}}
--| {"id":3e9}
--! dead-letters 7
--! expect out
--| 1 | 9007199254740993 | 2 | 3 | 15 | 7 | 0.5
--| 2 | -9223372036854775808 | NULL | NULL | NULL | 0 | 1000.0
--! expect nulls
--| 1 | 9007199254740993 | 2
--| 2 | -9223372036854775808 | NULL
--| NULL | 1 | NULL
--| 4 | NULL | NULL
--| 5 | NULL | NULL
--| 6 | NULL | NULL
--| 7 | NULL | NULL
--| 8 | NULL | NULL
--| NULL | NULL | NULL
CREATE TABLE t (id INT, l BIGINT, a ARRAY<INT>, m MAP<STRING, SMALLINT>, r ROW<i TINYINT, d DOUBLE>) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.json');
CREATE TABLE o (id INT, l BIGINT, a INT, b INT, m SMALLINT, i TINYINT, d DOUBLE) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT id, l, a[2], a[3], m['x'], r.i, r.d FROM t;
CREATE TABLE n (id INT, l BIGINT, a ARRAY<INT>) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.json', 'dead-letter.policy' = 'null');
CREATE TABLE p (id INT, l BIGINT, a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'nulls');
INSERT INTO p SELECT id, l, a[2] FROM n;
