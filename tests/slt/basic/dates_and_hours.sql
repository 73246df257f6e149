-- A date and hours are a time; a date and days are a date.
--! input t.csv
--| d
--| 2024-03-31
--! expect out
--| 2024-03-31 01:00:00 | 2024-03-30 23:30:00 | 2024-04-01 | true
--! expect mixed
--| 2024-03-31 01:00:00
--| 2024-01-01 01:00:00.123456
CREATE TABLE t (d DATE) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (a TIMESTAMP(3), b TIMESTAMP(3), c DATE, e BOOLEAN) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT d + INTERVAL '1' HOUR, d - INTERVAL '30' MINUTE, INTERVAL '1' DAY + d, TIMESTAMP '2024-03-31 05:59:59' < d + INTERVAL '6' HOUR FROM t;
CREATE VIEW m AS SELECT d AS x FROM t UNION ALL SELECT TIMESTAMP '2024-01-01 00:00:00.123456' FROM t;
CREATE TABLE mixed (x TIMESTAMP(6)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'mixed');
INSERT INTO mixed SELECT x + INTERVAL '1' HOUR FROM m;
