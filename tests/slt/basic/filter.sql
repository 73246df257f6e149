-- Projection and filter. Rows with price above 2: ids 2 and 3 (NULL is not above 2); an empty STRING field stays an empty text.
--! input t.csv
--| id,price,name
--| 1,1.50,a
--| 2,2.50,"b, c"
--| 3,10.00,
--| 4,,d
--! expect out
--| 2 | 5.0 | b, c
--| 3 | 20.0 | ''
--! late none
CREATE TABLE t (id INT, price DOUBLE, name STRING) WITH ('connector' = 'filesystem', 'path' = 't.csv', 'format' = 'csv');
CREATE TABLE o (id INT, twice DOUBLE, name STRING) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');
INSERT INTO o SELECT id, price * 2, name FROM t WHERE price > 2;
