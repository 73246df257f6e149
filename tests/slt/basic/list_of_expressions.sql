-- A list may hold what is computed from the row, a CASE without an ELSE too.
--! input t.jsonl
--| {"id": 1, "b": 5, "c": true}
--| {"id": 2, "b": 5, "c": false}
--| {"id": 3, "b": 1, "c": null}
--| {"id": 4, "b": 7, "c": null}
--! expect out
--| 1 | true | false
--| 2 | NULL | NULL
--| 3 | true | false
--| 4 | NULL | NULL
CREATE TABLE t (id INT, b BIGINT, c BOOLEAN) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.jsonl');
CREATE TABLE o (id INT, i BOOLEAN, n BOOLEAN) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
INSERT INTO o SELECT id, b + 1 IN (CASE WHEN c THEN b + 1 WHEN NOT c THEN NULL END, 2), b + 1 NOT IN (CASE WHEN c THEN b + 1 WHEN NOT c THEN NULL END, 2) FROM t;
