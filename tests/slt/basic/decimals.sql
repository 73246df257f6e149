-- 0.908 * 2.50 = 2.27 exactly; the sum of a decimal column is exact too.
--! input t.csv
--| p
--| 2.50
--| 0.01
--! expect out
--| 2.27000
--| 0.00908
CREATE TABLE t (p DECIMAL(10, 2)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (x DECIMAL(20, 5)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT 0.908 * p FROM t;
