-- A text with an exponent is a DECIMAL; bytes that are no UTF-8 are written with the character for that.
--! input t.csv
--| id,s
--| 1,1.5e3
--| 2,-2E-2
--| 3,1e80
--| 4,e
--! expect out
--| 1 | 1500.00
--| 2 | -0.02
--| 3 | NULL
--| 4 | NULL
--! expect bytes
--| �A | 0.0000000100
CREATE TABLE t (id INT, s STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (id INT, d DECIMAL(10, 2)) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
CREATE TABLE b (s STRING, d DECIMAL(20, 10)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'bytes');
INSERT INTO o SELECT id, TRY_CAST(s AS DECIMAL(10, 2)) FROM t;
INSERT INTO b SELECT CAST(UNHEX(CASE id WHEN 1 THEN 'FF41' END) AS STRING), CAST('1e-8' AS DECIMAL(20, 10)) FROM t WHERE id = 1;
