-- Fields of rows are matched by position, in a cast and by an insert; names, order and types may differ.
--! input t.json
--| {"id":1,"s":"a","r":{"x":7,"y":8}}
--| {"id":2,"s":null,"r":null}
--! expect out
--| {"x":1,"y":"a"} | [{"x":1,"y":"a"}] | {"k":{"x":1,"y":"a"}} | {"p":{"q":"1"},"z":1.5} | {"y":7,"x":8}
--| {"x":2,"y":null} | [{"x":2,"y":null}] | {"k":{"x":2,"y":null}} | {"p":{"q":"2"},"z":1.5} | NULL
CREATE TABLE t (id INT, s STRING, r ROW<x INT, y INT>) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.json');
CREATE TABLE o (a ROW<x INT, y STRING>, b ARRAY<ROW<x BIGINT, y STRING>>, c MAP<STRING, ROW<x INT, y STRING>>, d ROW<p ROW<q STRING>, z DOUBLE>, e ROW<y BIGINT, x BIGINT>)
WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
INSERT INTO o SELECT ROW(id, s), CAST(ARRAY[ROW(id, s)] AS ARRAY<ROW<x BIGINT, y STRING>>), CAST(MAP['k', ROW(id, s)] AS MAP<STRING, ROW<x INT, y STRING>>),
CAST(ROW(ROW(CAST(id AS STRING)), '1.5') AS ROW<p ROW<q STRING>, z DOUBLE>), r FROM t;
