-- An option of Flink that asks for what there is not is refused with the reason.
--! error E0203
--! message auto-compaction
--! hint sink.parallelism
CREATE TABLE o (a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out', 'auto-compaction' = 'true');
INSERT INTO o VALUES (1);
