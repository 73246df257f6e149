-- A column of a union is nullable if it is so in any branch, however few rows of which branch come together.
--! input t.json
--| {"id":1,"s":null,"ts":"2024-01-01 00:00:01"}
--| {"id":2,"s":"y","ts":"2024-01-01 00:00:02"}
--! expect out
--| web | 1 | 1
--| NULL | 1 | NULL
--| web | 2 | 1
--| y | 2 | 2
--! expect counts
--| 2024-01-01 00:00:00.000 | web | 2
--| 2024-01-01 00:00:00.000 | NULL | 1
--| 2024-01-01 00:00:00.000 | y | 1
CREATE TABLE t (id INT, s STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.json');
CREATE TABLE o (a STRING, b INT, c INT) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
CREATE TABLE c (w TIMESTAMP(3), a STRING, n BIGINT) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'counts');
CREATE VIEW v AS SELECT 'web' AS src, id, 1 AS c, ts FROM t UNION ALL SELECT s, id, NULLIF(id, 1), ts FROM t;
INSERT INTO o SELECT src, id, c FROM v;
INSERT INTO c SELECT window_start, src, COUNT(*) FROM TABLE(TUMBLE(TABLE v, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end, src;
