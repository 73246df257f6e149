-- Backticks and double quotes both quote names; a name is found without regard to case if only one fits.
--! input t.csv
--| order,my col
--| 1,2
--! expect out
--| 1 | 2
CREATE TABLE t (`order` INT, "my col" INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (a INT, `b` INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT "order", `my col` FROM T;
