-- Beside a DOUBLE an exact number is one, in VALUES and in arrays too.
--! expect out
--| 1.5 | 1.5
--| 1e-20 | 1e-20
--| 1e20 | 1e20
--| 3.0 | 3.0
--| NULL | NULL
CREATE TABLE o (x DOUBLE, y DOUBLE) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT x, ARRAY[1.5, x][2] FROM (VALUES (1.5), (1E-20), (1E20), (3), (NULL)) AS v (x);
