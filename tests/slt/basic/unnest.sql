-- One row per element; an empty or missing array gives none.
--! input t.jsonl
--| {"id": 1, "tags": ["a", "b"]}
--| {"id": 2, "tags": []}
--| {"id": 3}
--| {"id": 4, "tags": ["a", null]}
--! expect out
--| 1 | a
--| 1 | b
--| 4 | a
--| 4 | NULL
CREATE TABLE t (id INT, tags ARRAY<STRING>) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.jsonl');
CREATE TABLE o (id INT, tag STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT id, tag FROM t CROSS JOIN UNNEST(tags) AS u (tag);
