-- Paths into JSON text: a missing one is NULL, JSON_EXISTS says so, JSON_QUERY gives JSON.
--! input t.jsonl
--| {"j": "{\"a\": {\"b\": [1, \"x\"]}, \"n\": 5}"}
--| {"j": "{}"}
--! expect out
--| x | 5 | true | [1,"x"]
--| NULL | NULL | false | NULL
CREATE TABLE t (j STRING) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.jsonl');
CREATE TABLE o (a STRING, n INT, e BOOLEAN, q STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT JSON_VALUE(j, '$.a.b[1]'), JSON_VALUE(j, '$.n' RETURNING INT), JSON_EXISTS(j, '$.a'), JSON_QUERY(j, '$.a.b') FROM t;
