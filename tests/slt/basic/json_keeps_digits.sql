-- JSON functions give numbers as they stand in the text, and keep the order of fields.
--! input t.json
--| {"k":"{\"amt\":12345678901234567.89,\"p\":2.50, \"id\":1234567890123456789012345}","j":"{\"huge\":1e400,\"b\":2}"}
--! expect out
--| 12345678901234567.89 | 2.50 | 1234567890123456789012345 | {"amt":12345678901234567.89,"p":2.50,"id":1234567890123456789012345} | 2 | true | true | [1,{"z":"a b","y":[]}] | ["2.50","x","{\"c\":1}"]
CREATE TABLE t (k STRING, j STRING) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.json');
CREATE TABLE o (a DECIMAL(20, 2), b STRING, c STRING, d STRING, e INT, f BOOLEAN, g BOOLEAN, h STRING, i ARRAY<STRING>) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
INSERT INTO o SELECT CAST(JSON_VALUE(k, '$.amt') AS DECIMAL(20, 2)), JSON_VALUE(k, '$.p'), JSON_VALUE(k, '$.id'), JSON_QUERY(k, '$'), JSON_VALUE(j, '$.b' RETURNING INT), JSON_EXISTS(j, '$.huge'), j IS JSON OBJECT,
JSON_QUERY('{ "q" : [ 1, { "z" : "a b" , "y" : [ ] } ] }', '$.q'), JSON_QUERY('{"q":[2.50,"x",{"c": 1}]}', '$.q' RETURNING ARRAY<STRING>) FROM t;
