-- Splits that run ahead of the slowest by more than ten seconds wait; the two tables wait for each other, the answer is the same.
--! input a/1.csv
--| ts,v
--| 2013-01-01 00:00:01,1
--| 2013-01-01 00:00:40,2
--| 2013-01-01 00:05:00,3
--! input a/2.csv
--| ts,v
--| 2013-01-01 00:00:02,10
--| 2013-01-01 00:00:03,20
--! input b.csv
--| ts,v
--| 2013-01-01 00:00:05,100
--| 2013-01-01 00:00:44,200
--! expect out
--| 31 | 3
--| 2 | 1
--| 3 | 1
--| 100 | 1
--| 200 | 1
--! late none
--! parallelism 2
CREATE TABLE a (ts TIMESTAMP(3), v INT, WATERMARK FOR ts AS ts)
WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'a', 'csv.header' = 'true',
      'scan.watermark.alignment.group' = 'both', 'scan.watermark.alignment.max-drift' = '10 s');
CREATE TABLE b (ts TIMESTAMP(3), v INT, WATERMARK FOR ts AS ts)
WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'b.csv', 'csv.header' = 'true',
      'scan.watermark.alignment.group' = 'both', 'scan.watermark.alignment.max-drift' = '1 min');
CREATE TABLE o (total BIGINT, n BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o
SELECT SUM(v), COUNT(*) FROM TABLE(TUMBLE(TABLE a, DESCRIPTOR(ts), INTERVAL '30' SECOND)) GROUP BY window_start, window_end
UNION ALL
SELECT SUM(v), COUNT(*) FROM TABLE(TUMBLE(TABLE b, DESCRIPTOR(ts), INTERVAL '30' SECOND)) GROUP BY window_start, window_end;
