-- Rows written in the script: NULL among literals, types of the columns from all rows, an expression per row, and a view over VALUES.
--! expect out
--| 1 | a | 1.50 | 2024-01-01
--| 2 | NULL | 22.25 | 2024-01-02
--| 3 | C | 0.00 | NULL
--| 7 | x7 | NULL | NULL
--| 8 | x8 | NULL | NULL
--| 5 | five | 4.00 | 2024-02-29
CREATE TABLE o (a INT, b STRING, c DECIMAL(6, 2), d DATE) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
CREATE VIEW v AS SELECT * FROM (VALUES (7, 'x'), (8, 'x')) AS t (n, s);

INSERT INTO o VALUES (1, 'a', 1.5, DATE '2024-01-01'), (2, NULL, 22.25, DATE '2024-01-02'), (3, UPPER('c'), 0, NULL);
INSERT INTO o (b, a) SELECT s || CAST(n AS STRING), n FROM v;
INSERT INTO o SELECT 5, 'five', CAST(SQRT(16.0) AS DECIMAL(6, 2)), DATE '2024-02-29';
