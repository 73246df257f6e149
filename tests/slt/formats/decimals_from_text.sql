-- Decimals of CSV and JSON are rounded half up, as CAST rounds; numbers and booleans of JSON fill a STRING column.
--! input t.csv
--| id,d
--| 1,1.239
--| 2,-1.235
--| 3,12.345e0
--! input t.jsonl
--| {"id": 4, "d": 1.239, "s": 1.50}
--| {"id": 5, "d": "-1.235", "s": true}
--| {"id": 6, "d": 5e-3, "s": "text"}
--| {"id": 7, "d": 1e9, "s": null}
--! dead-letters 1
--! expect out
--| 1 | 1.24
--| 2 | -1.24
--| 3 | 12.35
--! expect js
--| 4 | 1.24 | 1.50
--| 5 | -1.24 | true
--| 6 | 0.01 | text
CREATE TABLE t (id INT, d DECIMAL(6, 2)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE j (id INT, d DECIMAL(6, 2), s STRING) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.jsonl');
CREATE TABLE o (id INT, d DECIMAL(6, 2)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
CREATE TABLE p (id INT, d DECIMAL(6, 2), s STRING) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'js');
INSERT INTO o SELECT id, d FROM t;
INSERT INTO p SELECT id, d, s FROM j;
