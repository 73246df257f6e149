-- Values of any type as JSON; JSON_QUERY with several values and with wrappers; spellings of a path.
--! input t.json
--| {"j":"{\"a\":[{\"c\":\"c1\"},{\"c\":\"c2\"}],\"n\":1,\"a b\":5}","l":[1,null],"m":{"k":1.5},"r":{"x":1,"y":null},"b":"YWJj","ts":"1990-06-02 13:37:42.001","f":0.1,"d":12.50}
--! expect out
--| ["c1","c2"] | [{}] | [1,2] | [[1,2]] | NULL | [1] | {} | 5 | {"l":[1,null],"m":{"k":1.5},"r":{"x":1,"y":null},"b":"YWJj","t":"1990-06-02T13:37:42.001","z":"1990-06-02T13:37:42.001Z","f":0.1,"d":12.50,"day":"1990-06-02"}
CREATE TABLE t (j STRING, l ARRAY<INT>, m MAP<STRING, DOUBLE>, r ROW<x INT, y STRING>, b BYTES, ts TIMESTAMP(3), f FLOAT, d DECIMAL(10, 2))
WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.json');
CREATE TABLE o (a STRING, b STRING, c STRING, d STRING, e STRING, f STRING, g STRING, h INT, i STRING)
WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
INSERT INTO o SELECT JSON_QUERY(j, 'lax $.a[*].c'), JSON_QUERY('{}', '$' WITH CONDITIONAL ARRAY WRAPPER), JSON_QUERY('[1, 2]', '$' WITH CONDITIONAL ARRAY WRAPPER),
JSON_QUERY('[1, 2]', '$' WITH UNCONDITIONAL ARRAY WRAPPER), JSON_QUERY(j, '$.n'), JSON_QUERY(j, '$.n' WITH CONDITIONAL WRAPPER), JSON_QUERY(j, 'strict $.n' EMPTY OBJECT ON ERROR),
JSON_VALUE(j, '$.[''a b'']' RETURNING INT),
JSON_OBJECT('l' VALUE l, 'm' VALUE m, 'r' VALUE r, 'b' VALUE b, 't' VALUE ts, 'z' VALUE CAST(ts AS TIMESTAMP_LTZ(3)), 'f' VALUE f, 'd' VALUE d, 'day' VALUE CAST(ts AS DATE)) FROM t;
