-- Topics whose rows change: by a key, and row by row. Who reads them goes on with what they come to; a plain table of
-- such a topic reads what stands there.
--! input t.json
--| {"before": null, "after": {"id": 1, "k": "a", "v": 10}, "op": "c"}
--| {"before": null, "after": {"id": 2, "k": "a", "v": 20}, "op": "c"}
--| {"before": null, "after": {"id": 3, "k": "b", "v": 30}, "op": "c"}
--| {"before": {"id": 1, "k": "a", "v": 10}, "after": {"id": 1, "k": "b", "v": 11}, "op": "u"}
--| {"before": {"id": 2, "k": "a", "v": 20}, "after": null, "op": "d"}
--| {"before": null, "after": {"id": 4, "k": "c", "v": 7}, "op": "c"}
--| {"before": {"id": 3, "k": "b", "v": 30}, "after": {"id": 3, "k": "b", "v": 31}, "op": "u"}
--! changes by_v
--| 1 | 11
--| 1 | 31
--| 1 | 7
--! changes groups
--| b | 42
--| c | 7
--! changes sums
--| 42 | b
--| 7 | c
--! expect plain
--| true
SET 'execution.checkpointing.interval' = '5 ms';
CREATE TABLE t (id INT, k STRING, v INT) WITH ('connector' = 'filesystem', 'format' = 'debezium-json', 'path' = 't.json');
CREATE TABLE people (id INT NOT NULL, k STRING, v INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'log', 'changelog' = 'upsert', 'partitions' = '3');
CREATE TABLE sums (k STRING NOT NULL, s BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'log', 'changelog' = 'upsert');
CREATE TABLE every (k STRING, v INT) WITH ('connector' = 'log', 'changelog' = 'log', 'partitions' = '2', 'key.fields' = 'k');
INSERT INTO people SELECT id, k, v FROM t;
INSERT INTO sums SELECT k, SUM(v) FROM t GROUP BY k;
INSERT INTO every SELECT k, v FROM t WHERE v > 0;
--! then
SET 'execution.checkpointing.interval' = '5 ms';
CREATE TABLE people (id INT NOT NULL, k STRING, v INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'log', 'changelog' = 'upsert', 'scan.bounded.mode' = 'latest-offset');
CREATE TABLE sums (k STRING NOT NULL, s BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'log', 'changelog' = 'upsert', 'scan.bounded.mode' = 'latest-offset');
CREATE TABLE every (k STRING, v INT) WITH ('connector' = 'log', 'changelog' = 'log', 'scan.bounded.mode' = 'latest-offset');
CREATE TABLE plain_people (id INT, row_kind STRING) WITH ('connector' = 'log', 'topic' = 'people', 'scan.bounded.mode' = 'latest-offset');
CREATE TABLE by_v (n BIGINT, v INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'by_v', 'sink.changelog' = 'log');
CREATE TABLE groups (k STRING, s BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'groups', 'sink.changelog' = 'log');
CREATE TABLE o_sums (s BIGINT, k STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'sums', 'sink.changelog' = 'log');
CREATE TABLE o_plain (all_kinds BOOLEAN) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'plain');
INSERT INTO by_v SELECT COUNT(*), v FROM people GROUP BY v;
INSERT INTO groups SELECT k, SUM(v) FROM every GROUP BY k;
INSERT INTO o_sums SELECT s, k FROM sums;
INSERT INTO o_plain SELECT row_kind IN ('+I', '+U', '-D') FROM (SELECT id, row_kind, ROW_NUMBER() OVER (PARTITION BY id ORDER BY PROCTIME()) AS n FROM plain_people) WHERE n = 1 AND id = 4;
