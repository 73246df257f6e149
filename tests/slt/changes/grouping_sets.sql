-- One aggregation for each set of keys: sets as written, all subsets, all prefixes, and in windows, where rows are final.
--! input t.csv
--| a,b,v,at
--| x,1,10,2026-01-01 00:00:01
--| x,2,20,2026-01-01 00:00:02
--| y,1,30,2026-01-01 00:00:03
--| ,1,40,2026-01-01 00:00:14
--! changes sets
--| x | NULL | 30 | 0 | 1
--| y | NULL | 30 | 0 | 1
--| NULL | NULL | 40 | 0 | 1
--| NULL | 1 | 80 | 1 | 2
--| NULL | 2 | 20 | 1 | 2
--! changes cubed
--| x | 1 | 1
--| x | 2 | 1
--| y | 1 | 1
--| NULL | 1 | 1
--| x | NULL | 2
--| y | NULL | 1
--| NULL | NULL | 1
--| NULL | 1 | 3
--| NULL | 2 | 1
--| NULL | NULL | 4
--! changes rolled
--| x | 1 | 0
--| x | 2 | 0
--| y | 1 | 0
--| NULL | 1 | 0
--| x | NULL | 1
--| y | NULL | 1
--| NULL | NULL | 1
--| NULL | NULL | 3
--! expect windows
--| 2026-01-01 00:00:00 | x | 30
--| 2026-01-01 00:00:00 | y | 30
--| 2026-01-01 00:00:00 | NULL | 60
--| 2026-01-01 00:00:10 | NULL | 40
--| 2026-01-01 00:00:10 | NULL | 40
SET 'execution.checkpointing.interval' = '5 ms';
CREATE TABLE t (a STRING, b INT, v BIGINT, at TIMESTAMP(3), WATERMARK FOR at AS at) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = '');
CREATE TABLE sets (a STRING, b INT, v BIGINT, ga BIGINT, g BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'sets', 'sink.changelog' = 'log');
CREATE TABLE cubed (a STRING, b INT, n BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'cubed', 'sink.changelog' = 'log');
CREATE TABLE rolled (a STRING, b INT, g BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'rolled', 'sink.changelog' = 'log');
CREATE TABLE windows (s TIMESTAMP(3), a STRING, v BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'windows', 'csv.null-literal' = '\N');
EXECUTE STATEMENT SET BEGIN
  INSERT INTO sets SELECT a, b, SUM(v), GROUPING(a), GROUPING(a, b) FROM t GROUP BY GROUPING SETS ((a), (b));
  INSERT INTO cubed SELECT a, b, COUNT(*) FROM t GROUP BY CUBE (a, b);
  INSERT INTO rolled SELECT a, b, GROUPING(a, b) FROM t GROUP BY ROLLUP (a, b);
  INSERT INTO windows SELECT window_start, a, SUM(v) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(at), INTERVAL '10' SECOND))
    GROUP BY window_start, window_end, ROLLUP (a);
END;
