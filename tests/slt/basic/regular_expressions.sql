-- REGEXP_EXTRACT takes the first match or NULL; REGEXP_REPLACE all; LIKE and SIMILAR TO match the whole text.
--! input t.csv
--| s
--| ab12cd345
--| none
--! expect out
--| 12 | ab#cd# | true
--| NULL | none | false
CREATE TABLE t (s STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (a STRING, b STRING, c BOOLEAN) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT REGEXP_EXTRACT(s, '([0-9]+)', 1), REGEXP_REPLACE(s, '[0-9]+', '#'), s LIKE 'ab%' FROM t;
