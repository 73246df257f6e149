-- A condition over a looked-up table is asked of the rows that are joined: no other row of the table can fail.
--! input t.json
--| {"id": 1, "k": "a"}
--| {"id": 2, "k": "b"}
--| {"id": 3, "k": "c"}
--! input l.json
--| {"k": "a", "n": 1}
--| {"k": "b", "n": 3}
--| {"k": "zzz", "n": 0}
--! expect out
--| inner | 1 | a
--| left | 1 | a
--| left | 2 | NULL
--| left | 3 | NULL
--| both | 2 | b
CREATE TABLE t (id INT, k STRING, p AS PROCTIME()) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.json');
CREATE TABLE l (k STRING, n INT) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'l.json');
CREATE TABLE o (w STRING, id INT, k STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT 'inner', t.id, l.k FROM t JOIN l FOR SYSTEM_TIME AS OF t.p ON t.k = l.k WHERE l.k <> 'y' AND 10 / l.n > 4;
INSERT INTO o SELECT 'left', t.id, l.k FROM t LEFT JOIN l FOR SYSTEM_TIME AS OF t.p ON t.k = l.k AND 10 / l.n > 4;
INSERT INTO o SELECT 'both', t.id, l.k FROM t JOIN l FOR SYSTEM_TIME AS OF t.p ON t.k = l.k AND 10 / l.n > t.id AND 10 / l.n < 9;
