-- A text whose year has a sign or five digits is no date; a boolean is 1 or 0 in a DECIMAL.
--! input t.csv
--| id,s,b
--| 1,2024-02-01,true
--| 2,-2024-01-01,false
--| 3,+12024-01-01,true
--| 4,12024-01-01,
--| 5, 0001-01-01 ,true
--! expect out
--| 1 | 2024-02-01 | 1.00
--| 2 | NULL | 0.00
--| 3 | NULL | 1.00
--| 4 | NULL | NULL
--| 5 | 0001-01-01 | 1.00
--! dead-letters 3
--! expect strict
--| 1 | 2024-02-01
--| 5 | 0001-01-01
CREATE TABLE t (id INT, s STRING, b BOOLEAN) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (id INT, d DATE, n DECIMAL(5, 2)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT id, TRY_CAST(s AS DATE), CAST(b AS DECIMAL(5, 2)) FROM t;
CREATE TABLE p (id INT, d DATE) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'strict');
INSERT INTO p SELECT id, CAST(s AS DATE) FROM t;
