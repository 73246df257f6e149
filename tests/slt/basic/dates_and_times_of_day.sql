-- FLOOR, CEIL, TIMESTAMPADD and EXTRACT of dates and times of day keep the type of what they are given.
--! input t.csv
--| d,c
--| 2020-05-17,12:34:56
--! expect out
--| 2020-05-01 | 2021-01-01 | 2020-05-20 | 2020-05-17 03:00:00.000 | 12 | 12:34:00 | 13:00:00 | 01:34:56 | 34 | 17 | DATE
CREATE TABLE t (d DATE, c TIME) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (a DATE, b DATE, c DATE, d TIMESTAMP(3), e BIGINT, f TIME, g TIME, h TIME, i BIGINT, j BIGINT, k STRING)
WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
INSERT INTO o SELECT FLOOR(d TO MONTH), CEIL(d TO YEAR), TIMESTAMPADD(DAY, 3, d), TIMESTAMPADD(HOUR, 3, d),
EXTRACT(HOUR FROM c), FLOOR(c TO MINUTE), CEIL(c TO HOUR), TIMESTAMPADD(HOUR, 13, c), MINUTE(c), EXTRACT(DAY FROM d), TYPEOF(FLOOR(d TO MONTH)) FROM t;
