-- Fields of rows, elements of arrays (from 1) and entries of maps; what is not there is NULL.
--! input t.jsonl
--| {"r": {"x": 1, "y": "u"}, "a": [10, 20], "m": {"k": "v"}}
--| {"r": {"x": 2, "y": null}, "a": [], "m": {}}
--! expect out
--| 1 | u | 20 | v | 2 | [10,20] | {"x":1,"y":"u"}
--| 2 | NULL | NULL | NULL | 0 | [] | {"x":2,"y":null}
CREATE TABLE t (r ROW<x INT, y STRING>, a ARRAY<INT>, m MAP<STRING, STRING>) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.jsonl');
CREATE TABLE o (x INT, y STRING, e INT, v STRING, c INT, a ARRAY<INT>, r ROW<x INT, y STRING>) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
INSERT INTO o SELECT t.r.x, t.r.y, a[2], m['k'], CARDINALITY(a), a, r FROM t;
