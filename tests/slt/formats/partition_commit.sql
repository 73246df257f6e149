-- A table whose partitions are announced by event time: news of time makes no record and changes no row.
--! input t.csv
--| ts,a
--| 2024-01-01 10:00:00.000,1
--| 2024-01-01 11:30:00.000,2
--| 2024-01-02 00:10:00.000,3
--! expect out
--| 1 | 2024-01-01 | 10
--| 2 | 2024-01-01 | 11
--| 3 | 2024-01-02 | 0
CREATE TABLE t (ts TIMESTAMP(3), a INT, WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (a INT, d STRING, h BIGINT) PARTITIONED BY (d, h) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out',
  'sink.partition-commit.policy.kind' = 'success-file', 'sink.partition-commit.trigger' = 'partition-time',
  'sink.partition-commit.delay' = '1 h', 'partition.time-extractor.timestamp-pattern' = '$d $h:00:00');
INSERT INTO o SELECT a, DATE_FORMAT(ts, 'yyyy-MM-dd'), HOUR(ts) FROM t;
