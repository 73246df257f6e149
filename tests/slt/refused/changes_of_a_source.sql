-- Rows of a table of changes into one that takes new rows only.
--! error E0115 at 8:13
--! message takes new rows only
--! input t.json
--| {"before": null, "after": {"id": 1}, "op": "c"}
CREATE TABLE t (id INT) WITH ('connector' = 'filesystem', 'format' = 'debezium-json', 'path' = 't.json');
CREATE TABLE o (id INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT id FROM t WHERE id > 0;
