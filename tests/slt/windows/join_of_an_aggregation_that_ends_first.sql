-- What an aggregation holds at the end of its input is not late for the join behind it, nor for a second aggregation.
--! input a.json
--| {"id":1,"ts":"2020-01-01 00:00:05","k":"a"}
--! input b.json
--| {"id":2,"ts":"2020-01-01 00:00:06","k":"a"}
--| {"id":3,"ts":"2020-01-01 00:00:20","k":"a"}
--! expect out
--| a | 1 | 2
--! expect all
--| 2020-01-01 00:00:00 | 2
--| 2020-01-01 00:00:20 | 1
CREATE TABLE a (id INT, ts TIMESTAMP(3), k STRING, WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'path' = 'a.json', 'format' = 'json');
CREATE TABLE b (id INT, ts TIMESTAMP(3), k STRING, WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'path' = 'b.json', 'format' = 'json');
CREATE TABLE o (k STRING, n BIGINT, id INT) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');
CREATE TABLE p (s TIMESTAMP(3), n BIGINT) WITH ('connector' = 'filesystem', 'path' = 'all', 'format' = 'csv');
CREATE VIEW ca AS SELECT window_start, window_end, window_time, k, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE a, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end, window_time, k;
CREATE VIEW cb AS SELECT window_start, window_end, window_time, k, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE b, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end, window_time, k;
INSERT INTO o SELECT l.k, l.n, r.id FROM ca AS l JOIN TABLE(TUMBLE(TABLE b, DESCRIPTOR(ts), INTERVAL '10' SECOND)) AS r ON l.window_start = r.window_start AND l.window_end = r.window_end AND l.k = r.k;
INSERT INTO p SELECT window_start, SUM(n) FROM (SELECT * FROM ca UNION ALL SELECT * FROM cb) GROUP BY window_start, window_end;
