-- A log of changes written as Debezium tells them, and read again; nested values, times and a folder for each day.
--! input t.csv
--| id,d,v
--| 1,2013-01-01,10
--| 2,2013-01-01,20
--| 3,2013-01-02,30
--| 2,2013-01-01,5
--! changes back
--| 2013-01-01 | 35 | [35] | 2013-01-01 00:00:00 | 0.35
--| 2013-01-02 | 30 | [30] | 2013-01-02 00:00:00 | 0.3
--! changes whole
--| 65
SET 'execution.checkpointing.interval' = '5 ms';
CREATE TABLE t (id INT, d DATE, v INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE days (d DATE, s BIGINT, a ARRAY<BIGINT>, ts TIMESTAMP(3), x DECIMAL(10, 2)) PARTITIONED BY (d) WITH ('connector' = 'filesystem', 'format' = 'debezium-json', 'path' = 'days', 'compression' = 'gzip');
INSERT INTO days SELECT d, SUM(v), ARRAY[SUM(v)], CAST(d AS TIMESTAMP(3)), CAST(SUM(v) AS DECIMAL(10, 2)) / 100 FROM t GROUP BY d;
--! then
CREATE TABLE days (d DATE, s BIGINT, a ARRAY<BIGINT>, ts TIMESTAMP(3), x DECIMAL(10, 2)) PARTITIONED BY (d) WITH ('connector' = 'filesystem', 'format' = 'debezium-json', 'path' = 'days');
CREATE TABLE back (d DATE, s BIGINT, a STRING, ts TIMESTAMP(3), x DECIMAL(10, 2)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'back', 'sink.changelog' = 'log');
CREATE TABLE whole (s BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'whole', 'sink.changelog' = 'log');
INSERT INTO back SELECT d, s, CAST(a AS STRING), ts, x FROM days;
INSERT INTO whole SELECT SUM(s) FROM days;
