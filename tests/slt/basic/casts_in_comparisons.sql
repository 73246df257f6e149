-- A comparison is one of what the cast gives, not of what stood before it.
--! input t.csv
--| id,d,ts
--| 1,1.24,2024-01-01 00:00:00.123456
--| 2,1.00,2024-01-01 00:00:00.123
--| 300,3.50,2024-01-01 00:00:00.999999
--! expect out
--| 1 | true | false | true | one | true | true | ok | true | false | true
--| 2 | true | false | true | one | true | true | ok | true | false | true
--| 300 | false | true | false | other | false | NULL | bad | false | true | true
--! expect whole
--| 1
--| 2
CREATE TABLE t (id INT, d DECIMAL(10, 2), ts TIMESTAMP(6)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (id INT, eq BOOLEAN, gt BOOLEAN, i12 BOOLEAN, c STRING, le BOOLEAN, ne BOOLEAN, s STRING, cut BOOLEAN, later BOOLEAN, finer BOOLEAN) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT id, CAST(d AS INT) = 1, CAST(d AS INT) > 1, CAST(d AS INT) IN (1, 2),
  CASE WHEN CAST(d AS BIGINT) = 1 THEN 'one' ELSE 'other' END, CAST(d AS DECIMAL(10, 1)) <= 1.2,
  TRY_CAST(id AS TINYINT) <> 9, CASE WHEN TRY_CAST(id AS TINYINT) > 5 THEN 'big' WHEN TRY_CAST(id AS TINYINT) IS NULL THEN 'bad' ELSE 'ok' END,
  CAST(ts AS TIMESTAMP(3)) < TIMESTAMP '2024-01-01 00:00:00.1234', CAST(ts AS TIMESTAMP(3)) >= TIMESTAMP '2024-01-01 00:00:00.9',
  CAST(ts AS TIMESTAMP(3)) <> TIMESTAMP '2024-01-01 00:00:00.123456' FROM t;
CREATE TABLE whole (id INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'whole');
INSERT INTO whole SELECT id FROM t WHERE CAST(d AS INT) = 1;
