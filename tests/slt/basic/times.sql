-- 2013-02-28 23:30 and 00:45 the next day: 75 minutes, one day in no whole hours; a floor to the hour; ISO fields.
--! input t.csv
--| a,b
--| 2013-02-28 23:30:00,2013-03-01 00:45:30
--! expect out
--| 75 | 1 | 2013-02-28 23:00:00 | 2013/02/28 23h | 2013 | 28 | 2013-03-01 00:45:00
CREATE TABLE t (a TIMESTAMP(3), b TIMESTAMP(3)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (m INT, h INT, f TIMESTAMP(3), d STRING, y BIGINT, dd BIGINT, i TIMESTAMP(3)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT TIMESTAMPDIFF(MINUTE, a, b), TIMESTAMPDIFF(HOUR, a, b), FLOOR(a TO HOUR), DATE_FORMAT(a, 'yyyy/MM/dd HH''h'''), YEAR(a), EXTRACT(DAY FROM a), a + INTERVAL '75' MINUTE FROM t;
