-- What is unnested has the types that the same array has in SELECT.
--! input t.csv
--| id,d,f,dt,ts
--| 0,1000000.01,1e-20,2024-01-01,2024-01-01 00:00:00.500
--| 1,2.25,1e20,9999-12-31,2024-01-01 00:00:07.500
--! expect numbers
--| 0 | 1000000.01
--| 0 | 1e-20
--| 1 | 2.25
--| 1 | 1e20
--! expect times
--| 0 | 2024-01-01 00:00:00.000
--| 0 | 2024-01-01 00:00:00.500
--| 1 | 9999-12-31 00:00:00.000
--| 1 | 2024-01-01 00:00:07.500
--! expect maps
--| 0 | a | 1000000.01
--| 0 | b | 1e-20
--| 1 | a | 2.25
--| 1 | b | 1e20
--! expect rows
--| 0 | 1 | 1000000.01
--| 0 | 2 | 1e-20
--| 1 | 1 | 2.25
--| 1 | 2 | 1e20
--! expect averages
--| 100000000000000002
--| 1
--! expect sums
--| 1
--| 7
CREATE TABLE t (id INT, d DECIMAL(10, 2), f DOUBLE, dt DATE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE numbers (id INT, y DOUBLE) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'numbers');
INSERT INTO numbers SELECT id, y FROM t CROSS JOIN UNNEST(ARRAY[d, f]) AS q (y);
CREATE TABLE times (id INT, y TIMESTAMP(3)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'times');
INSERT INTO times SELECT id, y FROM t CROSS JOIN UNNEST(ARRAY[dt, ts]) AS q (y);
CREATE TABLE maps (id INT, k STRING, y DOUBLE) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'maps');
INSERT INTO maps SELECT id, k, y FROM t CROSS JOIN UNNEST(MAP['a', d, 'b', f]) AS q (k, y);
CREATE TABLE `rows` (id INT, k INT, y DOUBLE) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'rows');
INSERT INTO `rows` SELECT id, k, y FROM t CROSS JOIN UNNEST(ARRAY[(1, d), (2, f)]) AS q (k, y);
CREATE VIEW g AS SELECT AVG(CAST(id AS BIGINT) + CAST(100000000000000002 AS BIGINT) - CAST(id AS BIGINT)) AS al, SUM(id) AS sv
FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY window_start, window_end;
CREATE TABLE averages (y BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'averages');
INSERT INTO averages SELECT y FROM g CROSS JOIN UNNEST(ARRAY[al, sv]) AS q (y);
CREATE TABLE sums (y INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'sums');
INSERT INTO sums SELECT y FROM g CROSS JOIN UNNEST(ARRAY[sv, 7]) AS q (y);
