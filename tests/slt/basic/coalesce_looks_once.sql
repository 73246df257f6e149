-- COALESCE looks at an argument where those before it are NULL, and at each once, however deep.
--! input t.csv
--| id,b
--| 1,0
--| 2,NA
--! expect out
--| 1 | 0 | 1 | true
--| 2 | 5 | 2 | true
CREATE TABLE t (id INT, b INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = 'NA');
CREATE TABLE o (id INT NOT NULL, b INT NOT NULL, c INT, d BOOLEAN) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT id, COALESCE(b, 10 / id), COALESCE(id, 1 / b), COALESCE(NULLIF(RAND_INTEGER(2), 0), 5) IS NOT NULL FROM t
  WHERE COALESCE(COALESCE(COALESCE(COALESCE(COALESCE(COALESCE(COALESCE(COALESCE(COALESCE(COALESCE(b + 1, id) + 1, id) + 1, id) + 1, id) + 1, id) + 1, id) + 1, id) + 1, id) + 1, id) + 1, id) > 0;
