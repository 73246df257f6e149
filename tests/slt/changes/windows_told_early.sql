-- Windows that are told before their end and corrected behind it come to what they would have told at their close.
--! input t/1.csv
--| k,v,ts
--| a,1,2024-01-01 10:00:00
--| b,2,2024-01-01 10:04:00
--| a,3,2024-01-01 10:11:00
--! input t/2.csv
--| k,v,ts
--| a,4,2024-01-01 10:03:00
--| b,5,2024-01-01 10:21:00
--| c,6,2024-01-01 10:09:59
--| a,7,2024-01-01 10:12:00
--! changes logged
--| 2024-01-01 10:00:00.000 | a | 2 | 5
--| 2024-01-01 10:00:00.000 | b | 1 | 2
--| 2024-01-01 10:00:00.000 | c | 1 | 6
--| 2024-01-01 10:10:00.000 | a | 2 | 10
--| 2024-01-01 10:20:00.000 | b | 1 | 5
--! expect kept
--| 2024-01-01 10:00:00.000 | 2024-01-01 10:10:00.000 | 4 | 3
--| 2024-01-01 10:05:00.000 | 2024-01-01 10:15:00.000 | 3 | 2
--| 2024-01-01 10:10:00.000 | 2024-01-01 10:20:00.000 | 2 | 1
--| 2024-01-01 10:15:00.000 | 2024-01-01 10:25:00.000 | 1 | 1
--| 2024-01-01 10:20:00.000 | 2024-01-01 10:30:00.000 | 1 | 1
--| 2024-01-01 09:55:00.000 | 2024-01-01 10:05:00.000 | 3 | 2
--! changes most
--| 4
SET 'execution.checkpointing.interval' = '5 ms';
SET 'table.exec.emit.early-fire.enabled' = 'true';
SET 'table.exec.emit.early-fire.delay' = '2 ms';
SET 'table.exec.emit.late-fire.enabled' = 'true';
SET 'table.exec.emit.late-fire.delay' = '1 ms';
SET 'table.exec.emit.allow-lateness' = '1 h';
CREATE TABLE t (k STRING, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' HOUR) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't');
CREATE TABLE logged (at TIMESTAMP(3), k STRING, n BIGINT, s BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'logged', 'sink.changelog' = 'log');
CREATE TABLE kept (a TIMESTAMP(3), b TIMESTAMP(3), n BIGINT, d BIGINT, PRIMARY KEY (a, b) NOT ENFORCED) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'kept', 'sink.changelog' = 'table');
CREATE TABLE most (n BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'most', 'sink.changelog' = 'log');
INSERT INTO logged SELECT window_start, k, COUNT(*), SUM(v) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' MINUTE)) GROUP BY window_start, window_end, k;
INSERT INTO kept SELECT window_start, window_end, COUNT(*), COUNT(DISTINCT k) FROM TABLE(HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '5' MINUTE, INTERVAL '10' MINUTE)) GROUP BY window_start, window_end;
INSERT INTO most SELECT MAX(n) FROM (SELECT window_start, window_end, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' MINUTE)) GROUP BY window_start, window_end) AS w;
