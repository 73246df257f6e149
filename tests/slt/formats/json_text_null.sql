-- Where what does not fit is NULL, an object for a STRING is its text all the same.
--! input t.jsonl
--| {"a": 1, "s": {"x": 1}, "b": "true"}
--| {"a": [2], "s": "t", "b": "no"}
--! expect out
--| 1 | {"x":1} | true
--| NULL | t | NULL
CREATE TABLE t (a INT, s STRING, b BOOLEAN) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.jsonl', 'json.ignore-parse-errors' = 'true');
CREATE TABLE o (a INT, s STRING, b BOOLEAN) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
INSERT INTO o SELECT a, s, b FROM t;
