-- Items of arrays and fields of rows have one type, as values beside each other do.
--! input t.csv
--| d,f
--| 1.50,1e-20
--| 2.00,1e20
--! expect out
--| 2.0E-20 | 3.0 | 2.0E-20 | 3.0 | 2.0E-20 | 2.0E-20 | false | 1.5
--| 2.0E20 | 4.0 | 2.0E20 | 4.0 | 2.0E20 | 2.0E20 | false | 2.0
--! expect dates
--| 9999-12-31 00:00:00.000 | 2024-01-01 00:00:00.000 | 9999-12-31 00:00:00.000
--| 9999-12-31 00:00:00.000 | 2024-01-01 00:00:00.000 | 9999-12-31 00:00:00.000
--! expect maps
--| 1e-20 | 1e-20 | 1e-20 | 1e-20 | 9999-12-31 00:00:00.000
--| 1e20 | 1e20 | 1e20 | 1e20 | 9999-12-31 00:00:00.000
--| 1.5 | 1e-20 | 1e-20 | 1e-20 | 9999-12-31 00:00:00.000
--| 2.0 | 1e20 | 1e20 | 1e20 | 9999-12-31 00:00:00.000
CREATE TABLE t (d DECIMAL(10, 2), f DOUBLE) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (a DOUBLE, b DOUBLE, c DOUBLE, d DOUBLE, e DOUBLE, f DOUBLE, g BOOLEAN, h DOUBLE) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT 2 * ARRAY_CONCAT(ARRAY[d], ARRAY[f])[2], 2 * ARRAY_APPEND(ARRAY[f], d)[2], 2 * ARRAY_APPEND(ARRAY[d], f)[2],
  2 * ARRAY[ARRAY[f], ARRAY[d]][2][1], 2 * ARRAY_PREPEND(ARRAY[d], f)[1], 2 * ARRAY[ROW(d), ROW(f)][2].c0, ARRAY_CONTAINS(ARRAY[d], f),
  (CASE WHEN f > 0 THEN ARRAY[d] ELSE ARRAY[f] END)[1] FROM t;
CREATE TABLE dates (a TIMESTAMP(3), b TIMESTAMP(3), c TIMESTAMP(3)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'dates');
INSERT INTO dates SELECT x[1], x[2], ARRAY_APPEND(ARRAY[TIMESTAMP '2024-01-01 00:00:00'], DATE '9999-12-31')[2]
FROM (SELECT ARRAY[DATE '9999-12-31', TIMESTAMP '2024-01-01 00:00:00'] AS x FROM t) AS v;
CREATE TABLE maps (a DOUBLE, b DOUBLE, c DOUBLE, d DOUBLE, e TIMESTAMP(3)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'maps');
INSERT INTO maps SELECT m['a'], COALESCE(MAP['b', f], MAP['a', d])['b'], ARRAY[MAP['a', d], MAP['b', f]][2]['b'], MAP_UNION(MAP['a', d], MAP['b', f])['b'],
  COALESCE(MAP['a', DATE '9999-12-31'], MAP['b', TIMESTAMP '2024-01-01 00:00:00'])['a']
FROM (SELECT f, d, MAP['a', f] AS m FROM t UNION ALL SELECT f, d, MAP['a', d] FROM t) AS v;
