-- Records that are changes: each the row as it was, the row as it is, and what was done. What is no change is a dead letter.
--! input t/1.json
--| {"before": null, "after": {"id": 1, "k": "a", "v": 10}, "op": "r", "source": {"db": "x"}, "ts_ms": 1}
--| {"before": null, "after": {"id": 2, "k": "a", "v": 20}, "op": "c"}
--| {"before": {"id": 1, "k": "a", "v": 10}, "after": {"id": 1, "k": "b", "v": 11}, "op": "u"}
--| {"before": null, "after": {"id": 3, "k": null, "v": 5}, "op": "c"}
--! input t/2.json
--| {"before": {"id": 2, "k": "a", "v": 20}, "after": null, "op": "d"}
--| {"before": null, "after": {"id": 2, "k": "a", "v": 2}, "op": "u"}
--| {"before": null, "after": {"id": 9, "k": "a", "v": 2}, "op": "m"}
--| {"before": null, "after": {"id": 9, "k": "a", "v": 2}}
--| {"before": null, "after": {"id": null, "k": "a", "v": 2}, "op": "c"}
--| {"before": {"id": 3, "k": null, "v": 5}, "after": {"id": 3, "k": null, "v": 6}, "op": "u"}
--| {"before": null, "after": {"id": 4, "k": "b", "v": "x"}, "op": "c"}
--| null
--! changes rows
--| 1 | b | 11
--| 3 | NULL | 6
--! changes groups
--| b | 1 | 11
--| NULL | 1 | 6
--! changes times
--| 2
--! dead-letters 6
SET 'execution.checkpointing.interval' = '5 ms';
CREATE TABLE t (id INT NOT NULL, k STRING, v INT) WITH ('connector' = 'filesystem', 'format' = 'debezium-json', 'path' = 't');
CREATE TABLE r (id INT, k STRING, v INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'rows', 'sink.changelog' = 'log');
CREATE TABLE g (k STRING, n BIGINT, s BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'groups', 'sink.changelog' = 'log');
CREATE TABLE n (n BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'times', 'sink.changelog' = 'log');
INSERT INTO r SELECT id, k, v FROM t;
INSERT INTO g SELECT k, COUNT(*), SUM(v) FROM t GROUP BY k;
INSERT INTO n SELECT COUNT(*) FROM t WHERE v > 5;
