-- An integer literal is INT where it fits: none of these needs a cast into an INT column.
--! input t.json
--| {"v":5}
--| {"v":null}
--! expect out
--| 5 | 5 | 5 | 0 | 5 | NULL | 2 | [5,0] | 1 | {"k":1} | 86400000000
--| 0 | 0 | 0 | 0 | NULL | NULL | NULL | [null,0] | 0 | {"k":1} | 86400000000
--! expect narrow
--| 5 | 1 | -3 | [1,2]
--| 5 | 0 | -3 | [1,2]
--! expect both
--| 5
--| NULL
--| 0
--| 0
CREATE TABLE t (v INT) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.json');
CREATE TABLE o (a INT, b INT, c INT, d INT, e INT, f INT, g INT, h ARRAY<INT>, i INT, m MAP<STRING, INT>, big BIGINT) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
CREATE TABLE p (v INT) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'both');
INSERT INTO o SELECT COALESCE(v, 0), IFNULL(v, 0), CASE WHEN v > 0 THEN v ELSE 0 END, LEAST(COALESCE(v, 0), 0), GREATEST(v, 1), NULLIF(v, 5), MOD(v, 3), ARRAY[v, 0], IF(v > 0, 1, 0), MAP['k', 1], 86400 * 1000000 FROM t;
CREATE TABLE n (a TINYINT, b SMALLINT, c TINYINT, d ARRAY<TINYINT>) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'narrow');
INSERT INTO n SELECT 5, CASE WHEN v > 0 THEN 1 ELSE 0 END, -3, ARRAY[1, 2] FROM t;
INSERT INTO p SELECT v + 0 FROM t UNION ALL SELECT 0 FROM t;
