-- The scale of a quotient follows both sides (max(6, s1 + p2 + 1)), and it is rounded half up, away from zero.
-- Integers are cut off; a zero divisor fails the row, which is put aside.
--! input t.csv
--| a,b,n
--| 1.00,3.0,7
--| 2.00,3.0,-7
--| -2.00,3.0,1
--| 0.05,-8.0,0
--| 1.00,0.0,0
--| ,3.0,5
--! dead-letters 1
--! expect out
--| 0.33333333333 | 0.3333333333333 | 3 | 0.5000000000000
--| 0.66666666667 | 0.6666666666667 | -3 | 1.0000000000000
--| -0.66666666667 | -0.6666666666667 | 0 | -1.0000000000000
--| -0.00625000000 | 0.0166666666667 | 0 | 0.0250000000000
--| NULL | NULL | 2 | NULL
CREATE TABLE t (a DECIMAL(10, 2), b DECIMAL(8, 1), n INT)
WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = '');
CREATE TABLE o (x DECIMAL(20, 11), y DECIMAL(21, 13), z INT, w DECIMAL(21, 13))
WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT a / b, a / 3, n / 2, a / 2 FROM t;
