-- A field of a row in a select list is a column by its own name, also behind the name of its table; numbered where
-- the name is taken.
--! input t.json
--| {"r": {"x": 1, "y": {"z": 2}}, "a": [{"f": 3}], "x": 4}
--! expect out
--| 1 | 2 | 3 | 4 | 1
CREATE TABLE t (r ROW<x INT, y ROW<z INT>>, a ARRAY<ROW<f INT>>, x INT) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.json');
CREATE VIEW w AS SELECT r.x AS first, t.r.y.z, a[1].f, r.x, t.x FROM t;
CREATE TABLE o (a INT, z INT, f INT, x INT, x0 INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT w.first, z, f, w.x, x0 FROM (SELECT q.first, z, f, x, x0 FROM w AS q) AS w;
