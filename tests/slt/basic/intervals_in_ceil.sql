-- What follows TO is CEIL's where no interval goes from the one unit to the other.
--! input t.csv
--| c,ts
--| 12:34:56.500,2020-05-17 12:34:56
--! expect out
--| 12:40:00 | 2020-05-17 12:00:00.000 | 2020-05-18 00:00:00.000
CREATE TABLE t (c TIME(3), ts TIMESTAMP(3)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (a TIME(3), b TIMESTAMP(3), c TIMESTAMP(3)) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
INSERT INTO o SELECT CEIL(c + INTERVAL '5' MINUTE TO MINUTE), FLOOR(ts + INTERVAL '1:30' MINUTE TO SECOND TO HOUR), CEIL(ts + INTERVAL '5' MINUTE TO DAY) FROM t;
