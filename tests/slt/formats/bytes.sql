-- BYTES are base64 in CSV and JSON, nested ones too; what is not base64 is a dead letter.
--! input t.csv
--| id,b
--| 1,aGVsbG8=
--| 2,
--| 3,???
--! dead-letters 1
--! expect mid
--| 1 | aGVsbG8= | ["aGVsbG8="]
--| 2 | NULL | [null]
--! expect out
--| 1 | hello | aGVsbG8= | 68656C6C6F
--| 2 | NULL | NULL | NULL
CREATE TABLE t (id INT, b BYTES) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE m (id INT, b BYTES, l ARRAY<BYTES>) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'mid');
INSERT INTO m SELECT id, b, ARRAY[b] FROM t;
--! then
CREATE TABLE m (id INT, b BYTES, l ARRAY<BYTES>) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'mid');
CREATE TABLE o (id INT, s STRING, b BYTES, h STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT id, DECODE(b, 'UTF-8'), l[1], HEX(b) FROM m;
