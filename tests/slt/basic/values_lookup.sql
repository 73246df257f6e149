-- A stream joined with rows written in the script: they are loaded whole, as a bounded table is.
--! input t.csv
--| code
--| AA
--| XX
--| UA
--! expect out
--| AA | American
--| XX | NULL
--| UA | United
--! expect none
CREATE TABLE t (code STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (code STRING, name STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
CREATE TABLE n (code STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'none');
INSERT INTO o SELECT t.code, c.name FROM t LEFT JOIN (VALUES ('AA', 'American'), ('UA', 'United')) AS c (code, name) ON t.code = c.code;
INSERT INTO n SELECT code FROM t WHERE 1 = 2;
