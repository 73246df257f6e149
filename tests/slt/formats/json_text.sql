-- An object or array for a STRING is its text, a text for a BOOLEAN its value, as in Flink; what is neither is put aside.
--! input t.jsonl
--| {"a": 1, "s": {"x": [1, "y z"]}, "b": "true", "l": [[2], "w", {"q": null}]}
--| {"a": 2, "s": [ 1 , 2 ], "b": "False"}
--| {"a": 3, "s": "plain", "b": true}
--| {"a": 4, "s": 5, "b": "yes"}
--| {"a": [6], "s": "number?"}
--! dead-letters 2
--! expect out
--| 1 | {"x":[1,"y z"]} | true | ["[2]","w","{\"q\":null}"]
--| 2 | [1,2] | false | NULL
--| 3 | plain | true | NULL
CREATE TABLE t (a INT, s STRING, b BOOLEAN, l ARRAY<STRING>) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.jsonl');
CREATE TABLE o (a INT, s STRING, b BOOLEAN, l ARRAY<STRING>) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
INSERT INTO o SELECT a, s, b, l FROM t;
