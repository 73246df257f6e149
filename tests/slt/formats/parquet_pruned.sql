-- Files that no row passes are not decoded, by their statistics or their partition, and still move the watermark.
--! input t.csv
--| id,k,v,ts
--| 1,a,10,2013-01-01 00:01:00
--| 2,b,200,2013-01-01 00:30:00
--| 3,c,20,2013-01-01 00:05:00
--| 4,d,30,2013-01-01 00:31:00
--| 5,e,,2013-01-01 00:32:00
--! late 0
--! expect pq
--| 1 | 10 | 2013-01-01 00:01:00.000 | a
--| 2 | 200 | 2013-01-01 00:30:00.000 | b
--| 3 | 20 | 2013-01-01 00:05:00.000 | c
--| 4 | 30 | 2013-01-01 00:31:00.000 | d
--| 5 | NULL | 2013-01-01 00:32:00.000 | e
--! expect out
--| 2013-01-01 00:00:00.000 | 2 | 30
--| 2013-01-01 00:30:00.000 | 1 | 30
--! expect nulls
--| 5
--! expect part
--| 4
CREATE TABLE t (id INT, k STRING, v INT, ts TIMESTAMP(3)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE p (id INT, v INT, ts TIMESTAMP(3), k STRING) PARTITIONED BY (k) WITH ('connector' = 'filesystem', 'format' = 'parquet', 'path' = 'pq');
INSERT INTO p SELECT id, v, ts, k FROM t;
--! then
CREATE TABLE p (id INT, v INT, ts TIMESTAMP(3), k STRING, WATERMARK FOR ts AS ts - INTERVAL '1' HOUR) PARTITIONED BY (k) WITH ('connector' = 'filesystem', 'format' = 'parquet', 'path' = 'pq');
CREATE TABLE q (id INT, v INT, ts TIMESTAMP(3), k STRING) PARTITIONED BY (k) WITH ('connector' = 'filesystem', 'format' = 'parquet', 'path' = 'pq');
CREATE TABLE r (id INT, v INT, ts TIMESTAMP(3), k STRING) PARTITIONED BY (k) WITH ('connector' = 'filesystem', 'format' = 'parquet', 'path' = 'pq', 'source.path.regex-pattern' = '.*/k=[a-d]/.*');
CREATE TABLE o (w TIMESTAMP(3), n BIGINT, s BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
CREATE TABLE n (id INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'nulls');
CREATE TABLE x (id INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'part');
INSERT INTO o SELECT window_start, COUNT(*), SUM(v) FROM TABLE(TUMBLE(TABLE p, DESCRIPTOR(ts), INTERVAL '10' MINUTE)) WHERE v < 100 GROUP BY window_start, window_end;
INSERT INTO n SELECT id FROM q WHERE v IS NULL;
INSERT INTO x SELECT id FROM r WHERE k IN ('d', 'e') OR v = 200 AND k <> 'b';
