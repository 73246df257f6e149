-- The key of a map's value may be any expression; NULL where there is no such key.
--! input t.jsonl
--| {"k": "a", "n": 1, "m": {"a": 5, "1": 6}}
--| {"k": "b", "n": 2, "m": {"a": 7}}
--| {"k": null, "n": 3, "m": {"3": 8}}
--| {"k": "a", "n": 4, "m": null}
--! expect out
--| 1 | 5 | 6 | 5
--| 2 | NULL | NULL | 7
--| 3 | NULL | 8 | NULL
--| 4 | NULL | NULL | NULL
CREATE TABLE t (k STRING, n INT, m MAP<STRING, INT>) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.jsonl');
CREATE TABLE o (n INT, by_column INT, by_cast INT, by_literal INT) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
INSERT INTO o SELECT n, m[k], m[CAST(n AS STRING)], m['a'] FROM t;
