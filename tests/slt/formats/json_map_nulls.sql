-- NULL fields are left out where that is asked for; an entry of a map is no field.
--! input t.json
--| {"id":1,"m":{"a":null,"b":1},"r":{"x":null,"y":2}}
--| {"id":null,"m":null,"r":null}
--! expect out
--| 1 | {"a":null,"b":1} | {"y":2}
--| NULL | NULL | NULL
CREATE TABLE t (id INT, m MAP<STRING, INT>, r ROW<x INT, y INT>) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.json');
CREATE TABLE o (id INT, m MAP<STRING, INT>, r ROW<x INT, y INT>) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out', 'json.encode.ignore-null-fields' = 'true');
INSERT INTO o SELECT * FROM t;
