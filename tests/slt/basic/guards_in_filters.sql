-- Conditions are asked in the order in which they stand, a view's before those over it: one guards those behind it.
--! input t.csv
--| id,b,s
--| 1,0,x
--| 2,2,2024-01-01
--| 4,20,2023-01-01
--! expect out
--| call | 2
--| merged | 2
--| view | 2
--| text | 2
--| text | 4
CREATE TABLE t (id INT, b INT, s STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (w STRING, id INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT 'call', id FROM t WHERE ABS(b) > 0 AND 10 / b > 1;
INSERT INTO o SELECT 'merged', id FROM t WHERE b > 0 AND b > -5 AND 10 / b > 1;
CREATE VIEW v AS SELECT id, b, s FROM t WHERE REGEXP(s, '^[0-9]{4}-') AND b <> 0;
INSERT INTO o SELECT 'view', id FROM v WHERE b > 1 AND 10 / (b - 1) > 2;
INSERT INTO o SELECT 'text', id FROM v WHERE CAST(s AS DATE) >= DATE '2000-01-01' AND id > 0;
