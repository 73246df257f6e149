-- An aggregate without values stays NULL beside one that depends on the order of rows, however the slices of a window are merged.
--! input t.csv
--| ts,k,v,d
--| 2013-01-01 00:00:01,c,1,0.5
--| 2013-01-01 00:00:06,a,1,1.5
--| 2013-01-01 00:00:07,b,9,2.5
--| 2013-01-01 00:00:11,b,8,4.5
--! dead-letters none
--! expect out
--| 23:59:50 | c | 1 | NULL | NULL | NULL
--| 23:59:55 | c | 1 | NULL | NULL | NULL
--| 23:59:55 | a | 1 | NULL | NULL | NULL
--| 23:59:55 | b | 9 | 2.5 | 2.500000 | 9
--| 00:00:00 | c | 1 | NULL | NULL | NULL
--| 00:00:00 | a | 1 | NULL | NULL | NULL
--| 00:00:00 | b | 8 | 7.0 | 3.500000 | 8
--| 00:00:05 | a | 1 | NULL | NULL | NULL
--| 00:00:05 | b | 8 | 7.0 | 3.500000 | 8
--| 00:00:10 | b | 8 | 4.5 | 4.500000 | 8
CREATE TABLE t (ts TIMESTAMP(3), k STRING, v INT, d DECIMAL(5, 1), WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (s STRING, k STRING, l INT, t DECIMAL(38, 1), a DECIMAL(38, 6), m INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT DATE_FORMAT(window_start, 'HH:mm:ss'), k, LAST_VALUE(v ORDER BY ts), SUM(d) FILTER (WHERE v > 5), AVG(d) FILTER (WHERE v > 5), MIN(v) FILTER (WHERE v > 5)
FROM TABLE(HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '15' SECOND)) GROUP BY window_start, window_end, k;
