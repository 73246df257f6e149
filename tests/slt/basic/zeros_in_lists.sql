-- -0.0 and 0.0 are one value in a list of any length, as they are for `=`.
--! input t.jsonl
--| {"k": 1, "x": -0.0, "y": 0.0}
--| {"k": 2, "x": 0.0, "y": -0.0}
--| {"k": 3, "x": 3.5, "y": 1.0}
--! expect out
--| short | 1
--| short | 2
--| long | 1
--| long | 2
--| long | 3
--| not | 3
--| columns | 1
--| columns | 2
--| above | 3
CREATE TABLE t (k INT, x DOUBLE, y FLOAT) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.jsonl');
CREATE TABLE o (w STRING, k INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT 'short', k FROM t WHERE x IN (0.0, 9.5);
INSERT INTO o SELECT 'long', k FROM t WHERE x IN (0.0, 3.5, 7.0, 8.0, 9.0, 10.0) AND y IN (0, 1, 7, 8, 9, 10);
INSERT INTO o SELECT 'not', k FROM t WHERE x NOT IN (-0.0, 7.0, 8.0, 9.0, 10.0, 11.0);
INSERT INTO o SELECT 'columns', k FROM t WHERE x IN (y, 7.0, 8.0, 9.0, 10.0, 11.0);
INSERT INTO o SELECT 'above', k FROM t WHERE x >= 0E0 AND x > -0E0 AND y >= 0E0 AND y > -0E0;
