-- Records with their schema beside them; the newest row of each window of a time that both rows of a change have.
--! input t.json
--| {"schema": {"type": "struct"}, "payload": {"before": null, "after": {"id": 1, "v": 10, "ts": "2013-01-01 00:00:01"}, "op": "c"}}
--| {"schema": {"type": "struct"}, "payload": {"before": null, "after": {"id": 2, "v": 30, "ts": "2013-01-01 00:00:02"}, "op": "c"}}
--| {"schema": {"type": "struct"}, "payload": {"before": {"id": 2, "v": 30, "ts": "2013-01-01 00:00:02"}, "after": {"id": 2, "v": 7, "ts": "2013-01-01 00:00:09"}, "op": "u"}}
--| {"schema": {"type": "struct"}, "payload": {"before": {"id": 1, "v": 10, "ts": "2013-01-01 00:00:01"}, "after": null, "op": "d"}}
--| {"schema": {"type": "struct"}, "payload": {"before": null, "after": {"id": 3, "v": 4, "ts": "2013-01-01 00:00:11"}, "op": "c"}}
--| {"schema": {"type": "struct"}, "payload": null}
--! changes top
--| 2 | 7
--| 3 | 4
--! dead-letters 1
SET 'execution.checkpointing.interval' = '5 ms';
CREATE TABLE t (id INT, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'filesystem', 'format' = 'debezium-json', 'path' = 't.json', 'debezium-json.schema-include' = 'true');
CREATE TABLE o (id INT, v INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'top', 'sink.changelog' = 'log');
INSERT INTO o SELECT id, v FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY id ORDER BY ts DESC) AS n FROM t) WHERE n = 1;
