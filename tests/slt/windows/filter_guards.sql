-- What an aggregate's filter leaves out is not computed: no row fails.
--! input t.csv
--| ts,v
--| 2013-01-01 00:00:01,1
--| 2013-01-01 00:00:02,2
--| 2013-01-01 00:00:03,3
--| 2013-01-01 00:00:04,
--! expect out
--| 2013-01-01 00:00:00 | 15 | 4
CREATE TABLE t (ts TIMESTAMP(3), v INT, WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = '');
CREATE TABLE o (s TIMESTAMP(3), a INT, n BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT window_start, SUM(10 / (v - 1)) FILTER (WHERE v <> 1), COUNT(*) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end;
