-- A manifest with it could not be read back.
--! error E0107
CREATE TABLE t (a ARRAY<ARRAY<ARRAY<ARRAY<ARRAY<ARRAY<ARRAY<ARRAY<ARRAY<ARRAY<ARRAY<ARRAY<ARRAY<ARRAY<ARRAY<ARRAY<ARRAY<INT>>>>>>>>>>>>>>>>>) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.json');
CREATE TABLE o (a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT CARDINALITY(a) FROM t;
