-- A bounded table as a lookup: inner leaves out what has no match, left keeps it with NULL; a NULL key matches nothing.
--! input f.csv
--| id,carrier
--| 1,AA
--| 2,ZZ
--| 3,NA
--! input c.csv
--| code,name
--| AA,American
--| BB,British
--| NA,Nobody
--! expect inner
--| 1 | American
--! expect left
--| 1 | American
--| 2 | NULL
--| 3 | NULL
CREATE TABLE f (id INT, carrier STRING, p AS PROCTIME()) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'f.csv', 'csv.null-literal' = 'NA');
CREATE TABLE c (code STRING, name STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'c.csv');
CREATE TABLE o (id INT, name STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'inner');
CREATE TABLE l (id INT, name STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'left');
INSERT INTO o SELECT f.id, c.name FROM f JOIN c FOR SYSTEM_TIME AS OF f.p ON f.carrier = c.code;
INSERT INTO l SELECT f.id, c.name FROM f LEFT JOIN c FOR SYSTEM_TIME AS OF f.p ON f.carrier = c.code;
