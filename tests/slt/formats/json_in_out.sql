-- A missing field is NULL; a number may be written as text; nested values go through unchanged.
--! input t.jsonl
--| {"a": 1, "s": "x", "l": [{"q": 1.5}]}
--| {"s": null, "a": "2"}
--! expect out
--| 1 | x | [{"q":1.5}]
--| 2 | NULL | NULL
CREATE TABLE t (a INT, s STRING, l ARRAY<ROW<q DOUBLE>>) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.jsonl');
CREATE TABLE o (a INT, s STRING, l ARRAY<ROW<q DOUBLE>>) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
INSERT INTO o SELECT a, s, l FROM t;
