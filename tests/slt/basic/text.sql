-- Text functions in Flink's meaning: SPLIT_INDEX from 0, SUBSTRING and LOCATE from 1, CONCAT of NULL is NULL, CONCAT_WS skips it.
--! input t.csv
--| s,n
--| a-b-c,NA
--| größe,x
--! expect out
--| b | A-B-C | NULL | a-b-c | 5 | -b
--| NULL | GRÖSSE | größex | größe/x | 5 | rö
CREATE TABLE t (s STRING, n STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = 'NA');
CREATE TABLE o (a STRING, b STRING, c STRING, d STRING, e INT, f STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT SPLIT_INDEX(s, '-', 1), UPPER(s), CONCAT(s, n), CONCAT_WS('/', s, n), CHAR_LENGTH(s), SUBSTRING(s, 2, 2) FROM t;
