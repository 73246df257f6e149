-- An interval can be taken several times.
--! input t.csv
--| a
--| 2013-01-01 00:00:00.000
--! expect out
--| 2013-01-01 03:00:00.000 | 2012-12-31 00:00:00.000
CREATE TABLE t (a TIMESTAMP(3)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (p TIMESTAMP(3), q TIMESTAMP(3)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT a + INTERVAL '1' HOUR * 3, a - INTERVAL '6' HOUR * 2 * 2 FROM t;
