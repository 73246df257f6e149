-- A column of VALUES has one type: INT where all fit one, a timestamp where dates stand beside one.
--! expect ints
--| 1 | 1
--| 2 | 2
--| 3 | 2
--| 4 | 6
--| 5 | -2147483648
--| 6 | NULL
--! expect times
--| 9999-12-31 00:00:00.000
--| 2024-01-01 00:00:00.000
--| 0001-01-01 00:00:00.000
CREATE TABLE ints (id INT, x INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'ints');
INSERT INTO ints VALUES (1, 1), (2, CAST(2 AS INT)), (3, 1 + 1), (4, 2 * (7 - 4)), (5, -2147483648), (6, CAST(NULL AS SMALLINT));
CREATE TABLE times (x TIMESTAMP(3)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'times');
INSERT INTO times SELECT x FROM (VALUES (DATE '9999-12-31'), (TIMESTAMP '2024-01-01 00:00:00'), (CAST('0001-01-01' AS DATE))) AS q (x);
