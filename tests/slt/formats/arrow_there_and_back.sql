-- Nested values through an Arrow file and back; of the columns only those asked for are read.
--! input t.jsonl
--| {"a": [1, 2], "r": {"x": 1}, "m": {"k": 5}, "s": "x"}
--| {"a": [], "s": "y"}
--! expect ar
--| [1,2] | {"x":1} | {"k":5} | x
--| [] | NULL | NULL | y
--! expect out
--| [1,2] | 1 | 5
--| [] | NULL | NULL
CREATE TABLE t (a ARRAY<INT>, r ROW<x INT>, m MAP<STRING, INT>, s STRING) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.jsonl');
CREATE TABLE p (a ARRAY<INT>, r ROW<x INT>, m MAP<STRING, INT>, s STRING) WITH ('connector' = 'filesystem', 'format' = 'arrow', 'path' = 'ar', 'arrow.compression' = 'zstd');
INSERT INTO p SELECT * FROM t;
--! then
CREATE TABLE p (a ARRAY<INT>, r ROW<x INT>, m MAP<STRING, INT>, s STRING) WITH ('connector' = 'filesystem', 'format' = 'arrow', 'path' = 'ar');
CREATE TABLE o (a ARRAY<INT>, x INT, k INT) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
INSERT INTO o SELECT a, p.r.x, m['k'] FROM p;
