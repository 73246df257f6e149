-- Postgres' -> and ->> on JSON text keep the text as it stands; they bind closer than || and =. IS JSON tells kinds apart.
--! input t.jsonl
--| {"j": "{\"b\": {\"y\": 1.50, \"x\": [7, \"z\"]}, \"s\": \"a\\\"b\", \"n\": null}"}
--| {"j": "[1, {\"k\": true}]"}
--| {"j": "no"}
--| {"j": null}
--! expect out
--| {"y": 1.50, "x": [7, "z"]} | 1.50 | a"b! | null | NULL | z | true | false | true
--| NULL | NULL | NULL | NULL | NULL | NULL | true | true | false
--| NULL | NULL | NULL | NULL | NULL | NULL | false | false | false
--| NULL | NULL | NULL | NULL | NULL | NULL | false | false | false
--! expect some
--| {"b": {"y": 1.50, "x": [7, "z"]}, "s": "a\"b", "n": null}
CREATE TABLE t (j STRING) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.jsonl');
CREATE TABLE o (a STRING, b STRING, c STRING, d STRING, e STRING, f STRING, g BOOLEAN, h BOOLEAN, i BOOLEAN) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
CREATE TABLE s (j STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'some');
INSERT INTO o SELECT j -> 'b', j -> 'b' ->> 'y', j ->> 's' || '!', j -> 'n', j ->> 'n', j -> 'b' -> 'x' ->> -1, j IS JSON, j IS JSON ARRAY, j IS JSON AND j IS NOT JSON ARRAY FROM t;
INSERT INTO s SELECT j FROM t WHERE j -> 'b' ->> 'y' = '1.50' AND CAST(j -> 'b' -> 'x' ->> 0 AS INT) = 7;
