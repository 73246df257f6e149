-- What is no literal is computed row by row: the clock, and a value that depends on the row.
--! expect out
--| 1 | true | 3
--| 2 | true | 3
CREATE TABLE o (a INT, b BOOLEAN, c BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT a, t > TIMESTAMP '2020-01-01 00:00:00', c FROM (VALUES (1, NOW(), CHAR_LENGTH(UUID()) / 12), (2, NOW(), CARDINALITY(ARRAY[1, 2, CAST(RAND() AS INT)]))) AS x (a, t, c);
