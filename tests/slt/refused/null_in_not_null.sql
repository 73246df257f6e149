-- A table that only shows its rows keeps what it declares too.
--! input t.csv
--| a
--| NA
--! error E0217 at o
CREATE TABLE t (a INT) WITH ('connector' = 'filesystem', 'path' = 't.csv', 'format' = 'csv', 'csv.null-literal' = 'NA');
CREATE TABLE o (a INT NOT NULL) WITH ('connector' = 'print');
INSERT INTO o SELECT a FROM t;
