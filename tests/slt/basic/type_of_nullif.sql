-- NULLIF has the type of its first argument, whatever that is compared with.
--! input t.csv
--| id,d,s,v,ts
--| 1,1.50,2.5,3,2024-01-01 00:00:00
--| 2,0.00,0.00,0,2024-01-02 00:00:00
--! expect exact
--| 9007199254740993 | 12345678901234567.89 | true
--| 9007199254740993 | 12345678901234567.89 | true
--! expect out
--| 1 | 1.50 | 1.00 | 3 | 1.5 | NULL
--| 2 | NULL | NULL | 0 | 0.0 | 2024-01-02 00:00:00.000
CREATE TABLE t (id INT, d DECIMAL(10, 2), s STRING, v INT, ts TIMESTAMP(3)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (id INT, a DECIMAL(10, 2), b DECIMAL(20, 2), c INT, d DECIMAL(13, 1), e TIMESTAMP(3)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT id, NULLIF(d, 0), NULLIF(ROUND(CAST(s AS DECIMAL(10, 2)) / 2.5, 2), 0), NULLIF(v, 0.5), NULLIF(v + 0, 9.5) * 0.5, NULLIF(ts, '2024-01-01') FROM t;
CREATE TABLE exact (a BIGINT, b DECIMAL(21, 2), c BOOLEAN) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'exact');
INSERT INTO exact SELECT NULLIF(9007199254740992 + CAST(SIGN(id) AS INT), 1E0 * id), NULLIF(CAST(12345678901234567.89 AS DECIMAL(20, 2)) + 0, 1E0 * v),
  CAST('2024-01-01 00:00:00.123456789' AS TIMESTAMP(9)) = SUBSTRING('x2024-01-01 00:00:00.123456789' FROM 1 + id - id + 1) FROM t;
