-- Computed columns; metadata columns: where a row comes from. The file has one line of header.
--! input in/t.csv
--| a,b
--| 1,2
--| 3,4
--! expect out
--| 1 | 3 | true | true
--| 3 | 7 | true | true
CREATE TABLE t (
  a INT, b INT, s AS a + b,
  origin STRING METADATA, at BIGINT METADATA FROM 'offset'
) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'in');
CREATE TABLE o (a INT, s INT, f BOOLEAN, n BOOLEAN) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT a, s, origin LIKE '%t.csv', at >= 0 FROM t;
