-- RANK and DENSE_RANK in windows: equal rows have one number, and none of them is left out.
--! input t.csv
--| id,k,v,ts
--| 1,a,5,2020-01-01 00:00:01
--| 2,a,5,2020-01-01 00:00:02
--| 3,a,4,2020-01-01 00:00:03
--| 4,a,3,2020-01-01 00:00:04
--| 5,a,3,2020-01-01 00:00:05
--| 6,b,1,2020-01-01 00:00:06
--| 7,a,9,2020-01-01 00:00:11
--! expect ranks
--| 1 | 1
--| 2 | 1
--| 3 | 3
--| 6 | 1
--| 7 | 1
--! expect dense
--| 3 | 2
--| 4 | 3
--| 5 | 3
SET 'execution.checkpointing.interval' = '5 ms';
CREATE TABLE t (id INT, k STRING, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE ranks (id INT, place BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'ranks');
CREATE TABLE dense (id INT, place BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'dense');
INSERT INTO ranks SELECT id, n FROM (SELECT id, RANK() OVER (PARTITION BY window_start, window_end, k ORDER BY v DESC) AS n FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND))) WHERE n <= 3;
INSERT INTO dense SELECT id, n FROM (SELECT id, DENSE_RANK() OVER (PARTITION BY window_start, window_end, k ORDER BY v DESC) AS n FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND))) WHERE n BETWEEN 2 AND 3;
