-- CAST and TRY_CAST. A text that is no number is NULL for TRY_CAST; a DOUBLE cast to INT is truncated towards zero.
--! input t.csv
--| s,d
--| 12,2.9
--| x,-2.9
--! expect out
--| 12 | 2 | 2.9 | true
--| NULL | -2 | -2.9 | true
CREATE TABLE t (s STRING, d DOUBLE) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (a INT, b INT, c STRING, d BOOLEAN) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT TRY_CAST(s AS INT), CAST(d AS INT), CAST(d AS STRING) AS c, d::INT <> 0 FROM t;
