-- Three files far apart in time, one of them empty. No row is behind its own split's watermark, so none is late.
--! input in/1.csv
--| ts
--| 2013-01-05 00:00:05
--! input in/2.csv
--| ts
--| 2013-01-01 00:00:05
--! input in/3.csv
--| ts
--! late none
--! expect out
--| 2013-01-01 00:00:00 | 1
--| 2013-01-05 00:00:00 | 1
CREATE TABLE t (ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'in');
CREATE TABLE o (w TIMESTAMP(3), n BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT window_start, COUNT(*) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end;
