-- -0.0 is 0.0 in an array too.
--! input t.json
--| {"z": 0.0}
--! expect out
--| true | 1 | [1.0]
CREATE TABLE t (z DOUBLE) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.json');
CREATE TABLE o (c BOOLEAN, p INT, r ARRAY<DOUBLE>) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
INSERT INTO o SELECT ARRAY_CONTAINS(ARRAY[-z], z), ARRAY_POSITION(ARRAY[-z], z), ARRAY_REMOVE(ARRAY[-z, 1e0], z) FROM t;
