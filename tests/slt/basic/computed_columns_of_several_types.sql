-- What a computed column compares has one type, as in a query.
--! input t.csv
--| id,d,f,v
--| 1,1.50,3.0,2
--| 2,0.00,0.0,0
--! expect out
--| 1 | other | half | other | other | false | false
--| 2 | zero | other | other | zero | true | true
CREATE TABLE t (id INT, d DECIMAL(10, 2), f DOUBLE, v INT,
  a AS CASE d WHEN 0 THEN 'zero' ELSE 'other' END, b AS CASE d WHEN 1.5 THEN 'half' ELSE 'other' END, c AS CASE d WHEN id THEN 'id' ELSE 'other' END,
  e AS CASE f WHEN 0 THEN 'zero' ELSE 'other' END, g AS CAST(v AS FLOAT) IN (d), h AS CAST(f AS FLOAT) IN (d, v))
WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (id INT, a STRING, b STRING, c STRING, e STRING, g BOOLEAN, h BOOLEAN) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT id, a, b, c, e, g, h FROM t;
