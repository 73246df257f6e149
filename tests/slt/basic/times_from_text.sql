-- TO_TIMESTAMP of text that does not fit its pattern is NULL, and so is a NULL; seconds since 1970 for UNIX_TIMESTAMP.
--! input t.csv
--| s
--| 01.02.2013 03:04
--| nonsense
--! expect out
--| 2013-02-01 03:04:00 | 1359687840
--| NULL | NULL
CREATE TABLE t (s STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (a TIMESTAMP(3), b BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT TO_TIMESTAMP(s, 'dd.MM.yyyy HH:mm'), UNIX_TIMESTAMP(s, 'dd.MM.yyyy HH:mm') FROM t;
