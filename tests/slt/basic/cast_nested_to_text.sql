-- Arrays, maps and rows as texts: NULL inside is written as NULL.
--! input t.json
--| {"a":[1,null,3],"m":{"k":1.5,"l":null},"r":{"x":true,"y":["u",null]}}
--| {"a":[],"m":{},"r":{"x":null,"y":null}}
--| {"a":null,"m":null,"r":null}
--! expect out
--| [1, NULL, 3] | {k=1.5, l=NULL} | (TRUE, [u, NULL])
--| [] | {} | (NULL, NULL)
--| NULL | NULL | NULL
CREATE TABLE t (a ARRAY<INT>, m MAP<STRING, DOUBLE>, r ROW<x BOOLEAN, y ARRAY<STRING>>) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.json');
CREATE TABLE o (a STRING, m STRING, r STRING) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
INSERT INTO o SELECT CAST(a AS STRING), CAST(m AS STRING), CAST(r AS STRING) FROM t;
