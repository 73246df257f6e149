-- Tables that are kept by their keys: the latest row of each, whatever died on the way; read again by a later job.
--! input t/1.json
--| {"before": null, "after": {"id": 1, "k": "a", "v": 10}, "op": "c"}
--| {"before": null, "after": {"id": 2, "k": "a", "v": 20}, "op": "c"}
--| {"before": {"id": 1, "k": "a", "v": 10}, "after": {"id": 1, "k": "b", "v": 11}, "op": "u"}
--| {"before": null, "after": {"id": 3, "k": "c", "v": 5}, "op": "c"}
--! input t/2.json
--| {"before": {"id": 2, "k": "a", "v": 20}, "after": null, "op": "d"}
--| {"before": null, "after": {"id": 2, "k": "a", "v": 2}, "op": "c"}
--| {"before": {"id": 3, "k": "c", "v": 5}, "after": null, "op": "d"}
--| {"before": null, "after": {"id": 4, "k": "b", "v": 30}, "op": "c"}
--| {"before": null, "after": {"id": 5, "k": "e", "v": null}, "op": "c"}
--| {"before": {"id": 5, "k": "e", "v": null}, "after": {"id": 5, "k": "f", "v": null}, "op": "u"}
--! input late/1.csv
--| id,v
--| 7,1
--| 8,2
--| 7,3
--! expect rows
--| 1 | b | 11
--| 2 | a | 2
--| 4 | b | 30
--| 5 | f | NULL
--! expect groups
--| a | 1 | 2
--| b | 2 | 41
--| f | 1 | NULL
--! expect top.csv
--| 1 | 30
--| 2 | 11
--! expect by_v
--| 2 | 2
--| 11 | 1
--| 30 | 4
--! expect last
--| 7 | 3
--| 8 | 2
--! expect all
--| a | 2
--| b | 41
--| f | NULL
SET 'execution.checkpointing.interval' = '5 ms';
CREATE TABLE t (id INT NOT NULL, k STRING, v INT) WITH ('connector' = 'filesystem', 'format' = 'debezium-json', 'path' = 't');
CREATE TABLE r (id INT, k STRING, v INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'filesystem', 'format' = 'csv', 'csv.null-literal' = 'NULL', 'path' = 'rows', 'sink.changelog' = 'table');
CREATE TABLE g (k STRING, n BIGINT, s BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'filesystem', 'format' = 'parquet', 'path' = 'groups', 'sink.changelog' = 'table');
CREATE TABLE top (place BIGINT, v INT, PRIMARY KEY (place) NOT ENFORCED) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'top.csv', 'sink.changelog' = 'table');
CREATE TABLE by_v (v INT, id INT, PRIMARY KEY (v) NOT ENFORCED) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'by_v', 'sink.changelog' = 'table');
CREATE TABLE c (id INT, v INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'late');
CREATE TABLE last (id INT, v INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'filesystem', 'format' = 'arrow', 'path' = 'last', 'sink.changelog' = 'table');
INSERT INTO r SELECT id, k, v FROM t;
INSERT INTO g SELECT k, COUNT(*), SUM(v) FROM t GROUP BY k;
INSERT INTO top SELECT place, v FROM (SELECT v, ROW_NUMBER() OVER (ORDER BY v DESC) AS place FROM t WHERE v IS NOT NULL) WHERE place <= 2;
INSERT INTO by_v SELECT v, id FROM t WHERE v IS NOT NULL;
-- New rows alone: of a key the last that came.
INSERT INTO last SELECT id, v FROM c;
--! then
CREATE TABLE g (k STRING, n BIGINT, s BIGINT) WITH ('connector' = 'filesystem', 'format' = 'parquet', 'path' = 'groups');
CREATE TABLE o (k STRING, s BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'csv.null-literal' = 'NULL', 'path' = 'all');
INSERT INTO o SELECT k, s FROM g;
