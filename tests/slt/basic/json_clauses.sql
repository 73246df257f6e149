-- JSON inside JSON, arrays out of JSON, strict paths, and what ON ERROR says of a value of another type.
--! input t.json
--| {"j":"{\"b\":[1,2],\"sc\":[\"p\",null],\"s\":\"x\",\"n\":7,\"a b\":3}"}
--! expect out
--| {"K":{"V":[1,"x"]}} | [[1]] | ["1","2"] | [1,2] | ["p",null] | true | NULL | d | NULL | 42 | 7 | 3
CREATE TABLE t (j STRING) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.json');
CREATE TABLE o (a STRING, b STRING, c ARRAY<STRING>, d ARRAY<INT>, e ARRAY<STRING>, f BOOLEAN, g BOOLEAN, h STRING, i INT, k INT, l INT, m STRING)
WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
INSERT INTO o SELECT JSON_OBJECT('K' VALUE JSON_OBJECT('V' VALUE (JSON_ARRAY(1, 'x')))), JSON_ARRAY(JSON_ARRAY(1)),
JSON_QUERY(j, '$.b' RETURNING ARRAY<STRING>), JSON_QUERY(j, '$.b' RETURNING ARRAY<INT>), JSON_QUERY(j, '$.sc' RETURNING ARRAY<STRING>),
JSON_EXISTS(j, 'strict $.none' TRUE ON ERROR), JSON_EXISTS(j, 'strict $.none' UNKNOWN ON ERROR), JSON_VALUE(j, 'strict $.none' DEFAULT 'd' ON ERROR),
JSON_VALUE(j, '$.s' RETURNING INT), JSON_VALUE(j, '$.s' RETURNING INT DEFAULT 42 ON ERROR), JSON_VALUE(j, '$.n' RETURNING INT NULL ON ERROR), JSON_VALUE(j, '$.["a b"]') FROM t;
