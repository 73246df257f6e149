-- Beside a DOUBLE a decimal is a DOUBLE: neither NaN nor infinity nor 1e20 has a place in a decimal. -0.0 is 0.0
-- for every comparison; NaN equals itself and is above all others.
--! input t.csv
--| id,x,d
--| 1,1e20,1.50
--| 2,-0.0,0.00
--| 3,NaN,1.00
--| 4,1.5,1.50
--| 5,-Infinity,-1.00
--| 6,NIL,2.00
--! dead-letters none
--! expect out
--| 1 | true | false | false | 1e20 | 1e20 | 1e20 | other
--| 2 | false | true | false | -0.0 | 0.5 | NULL | zero
--| 3 | true | false | false | NaN | NaN | NaN | other
--| 4 | true | true | true | 1.5 | 1.5 | 1.5 | three halves
--| 5 | false | false | false | -inf | 0.5 | -inf | other
--| 6 | NULL | NULL | NULL | 0.25 | 0.5 | NULL | other
--! expect both
--| 1 | 1e20
--| 2 | -0.0
--| 3 | NaN
--| 4 | 1.5
--| 5 | -inf
--| 6 | NULL
--| 1 | 1.5
--! expect filtered
--| 1
--| 3
--| 4
CREATE TABLE t (id INT, x DOUBLE, d DECIMAL(10, 2)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = 'NIL');
CREATE TABLE o (id INT, above BOOLEAN, same BOOLEAN, listed BOOLEAN, a DOUBLE, b DOUBLE, c DOUBLE, d STRING)
WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
CREATE TABLE b (id INT, x DOUBLE) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'both');
CREATE TABLE f (id INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'filtered');
INSERT INTO o SELECT id, x > 0.5, x = d, x IN (1.5, 2.5, 3.5, 4.5), COALESCE(x, 0.25), CASE WHEN x > 0.5 THEN x ELSE 0.5 END, NULLIF(x, 0.0),
  CASE x WHEN 0 THEN 'zero' WHEN 1.5 THEN 'three halves' ELSE 'other' END FROM t;
INSERT INTO f SELECT id FROM t WHERE x BETWEEN 0.5 AND 1e300 OR x > 0.5;
INSERT INTO b SELECT id, x FROM t UNION ALL SELECT id, d FROM t WHERE id = 1;
