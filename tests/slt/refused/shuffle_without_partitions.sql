-- Rows can be brought together by partition only where there are partitions.
--! error E0203
--! message sink.shuffle-by-partition.enable
CREATE TABLE o (a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out', 'sink.shuffle-by-partition.enable' = 'true');
INSERT INTO o VALUES (1);
