-- A date beside a timestamp is one of its digits, so that 9999-12-31 has a place: in comparisons, CASE, functions and unions.
--! input t.csv
--| id,d,t
--| 1,9999-12-31,2024-01-01 00:00:00
--| 2,2024-01-01,2024-01-01 00:00:00
--| 3,0001-01-01,9999-12-31 23:59:59.999
--! expect out
--| 1 | true | true | 9999-12-31 00:00:00 | 9999-12-31 00:00:00 | true
--| 2 | false | true | 2024-01-01 00:00:00 | 2024-01-01 00:00:00 | false
--| 3 | false | false | 0001-01-01 00:00:00 | 0001-01-01 00:00:00 | true
--! expect all
--| 0001-01-01 00:00:00
--| 2024-01-01 00:00:00
--| 2024-01-01 00:00:00
--| 2024-01-01 00:00:00
--| 9999-12-31 00:00:00
--| 9999-12-31 23:59:59.999
CREATE TABLE t (id INT, d DATE, t TIMESTAMP(3)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (id INT, a BOOLEAN, b BOOLEAN, c TIMESTAMP(3), e TIMESTAMP(3), f BOOLEAN) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT id, d > t, d >= TIMESTAMP '2024-01-01 00:00:00', COALESCE(d, t), CASE WHEN id > 0 THEN d ELSE t END, d > CURRENT_TIMESTAMP OR t > CURRENT_TIMESTAMP FROM t;
CREATE TABLE u (x TIMESTAMP(3)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'all');
INSERT INTO u SELECT t FROM t UNION ALL SELECT d FROM t;
