-- Integer literals of an array are INT where they are unnested too.
--! expect out
--| 1 | INT
--| 2 | INT
CREATE TABLE o (x INT, y STRING) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
INSERT INTO o SELECT x, TYPEOF(x) FROM (VALUES (1)) AS t (v) CROSS JOIN UNNEST(ARRAY[1, 2]) AS u (x);
