-- A literal of a time keeps the digits that it is written with; CONVERT_TZ in the hour that a clock skips or has twice.
--! expect out
--| 2020-01-01 00:00:00.123456789 | 01:02:03.500 | true | 2021-03-28 01:30:00 | 2021-10-31 01:30:00 | 2021-07-01 00:00:00
CREATE TABLE o (a TIMESTAMP(9), b TIME(3), c BOOLEAN, d STRING, e STRING, f STRING) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
INSERT INTO o SELECT TIMESTAMP '2020-01-01 00:00:00.123456789', TIME '01:02:03.5',
CAST('2020-01-01 00:00:00.123456700' AS TIMESTAMP(9)) = TIMESTAMP '2020-01-01 00:00:00.1234567',
CONVERT_TZ('2021-03-28 02:30:00', 'Europe/Berlin', 'UTC'), CONVERT_TZ('2021-10-31 02:30:00', 'Europe/Berlin', 'UTC'), CONVERT_TZ('2021-07-01 02:00:00', 'Europe/Berlin', 'UTC');
