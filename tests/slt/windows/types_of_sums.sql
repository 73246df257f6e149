-- SUM and AVG go by the type that their argument has in the end: of all branches, of all inputs, of a quotient.
--! input t.csv
--| id,ts
--| 0,2024-01-01 00:00:00
--| 1,2024-01-01 00:00:01
--| 2,2024-01-01 00:00:02
--| 3,2024-01-01 00:00:03
--! expect out
--| 2.246912 | 0.561728 | 4.2 | 7.0 | 1.750000 | 6000000002 | 6000000000 | 1 | 4 | 2
--! expect both
--| 7.0 | 0.875
--! expect quotients
--| 0.0000009999625 | 0.0000002500000 | 0.0000002499906
--! expect sides
--| 49382715604938271.56 | 49382715604938269.56 | 1.5
--! expect shifted
--| 6.500000 | 36.0 | 0.333333333333
CREATE TABLE t (id INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE VIEW q AS SELECT MOD(id, 2) = 0 AS b, CAST(1.123456 AS DECIMAL(20, 6)) AS e, 0.1E0 AS x, CAST(1 AS TINYINT) AS ti, CAST(3000000000 AS BIGINT) AS l, id, ts FROM t;
CREATE TABLE o (a DECIMAL(38, 6), b DECIMAL(38, 6), c DOUBLE, d DECIMAL(38, 1), e DECIMAL(38, 6), f BIGINT, g BIGINT, h INT, i TINYINT, j INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT SUM(CASE WHEN b THEN 0 ELSE e END), AVG(CASE WHEN b THEN 0 ELSE e END), SUM(CASE WHEN b THEN id + 1 ELSE x END),
  SUM(CASE WHEN b THEN 1 ELSE 2.5 END), AVG(CASE WHEN b THEN 1 ELSE 2.5 END), SUM(CASE WHEN b THEN ti ELSE l END),
  SUM(CASE WHEN b THEN 0 ELSE l END) FILTER (WHERE id > 0), AVG(id), SUM(ti), AVG(ti) + 1
FROM TABLE(TUMBLE(TABLE q, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY window_start, window_end;
CREATE VIEW u AS SELECT ts, id AS amount FROM t UNION ALL SELECT ts, 0.25E0 FROM t;
CREATE TABLE both (s DOUBLE, a DOUBLE) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'both');
INSERT INTO both SELECT SUM(amount), AVG(amount) FROM TABLE(TUMBLE(TABLE u, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY window_start, window_end;
CREATE VIEW r AS SELECT CAST(0.01 AS DECIMAL(10, 2)) / CAST(40000 + id AS DECIMAL(10, 2)) AS x, ts FROM t;
CREATE TABLE quotients (s DECIMAL(38, 13), m DECIMAL(23, 13), a DECIMAL(38, 13)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'quotients');
INSERT INTO quotients SELECT SUM(x), MAX(x), AVG(x) FROM TABLE(TUMBLE(TABLE r, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY window_start, window_end;
CREATE TABLE shifted (a DECIMAL(38, 6), s DECIMAL(38, 1), q DOUBLE) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'shifted');
INSERT INTO shifted SELECT AVG(id * 4 + 0.5), SUM(id + 1.5), CAST(AVG((CASE WHEN id < 9 THEN 1 ELSE 700.5 END) / 3) AS DOUBLE)
FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR)) CROSS JOIN UNNEST(ARRAY[1, 2, 3]) AS n (n) GROUP BY window_start, window_end;
CREATE VIEW e AS SELECT ts, id, CAST(12345678901234567.89 AS DECIMAL(20, 2)) AS d FROM t;
CREATE TABLE sides (a DECIMAL(38, 2), b DECIMAL(38, 2), c DECIMAL(38, 1)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'sides');
INSERT INTO sides SELECT SUM(d), SUM(d) - AVG(id) - 1, AVG(id) * 1.5 FROM TABLE(TUMBLE(TABLE e, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY window_start, window_end;
