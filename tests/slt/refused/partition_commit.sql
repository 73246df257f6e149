-- A pattern without the trigger that would use it.
--! error E0203 at 5:121
--! hint partition-time
CREATE TABLE t (a INT, d STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (a INT, d STRING) PARTITIONED BY (d) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out', 'partition.time-extractor.timestamp-pattern' = '$d');
INSERT INTO o SELECT a, d FROM t;
