-- The file of a record is not that of the row which it takes back.
--! error E0102 at t
--! message belongs to a record
--! input t.json
--| {"before": null, "after": {"id": 1}, "op": "c"}
CREATE TABLE t (id INT, f STRING METADATA FROM 'origin') WITH ('connector' = 'filesystem', 'format' = 'debezium-json', 'path' = 't.json');
CREATE TABLE o (id INT, f STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out', 'sink.changelog' = 'log');
INSERT INTO o SELECT id, f FROM t;
