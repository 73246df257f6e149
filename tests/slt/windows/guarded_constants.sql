-- A constant that fails is computed for the rows that ask for it, in the argument of an aggregate too.
--! input t.json
--| {"id":1,"ts":"2024-01-01 00:00:01"}
--| {"id":2,"ts":"2024-01-01 00:00:02"}
--! expect out
--| 2024-01-01 00:00:00.000 | 2 | 3 | 2
--! expect none
CREATE TABLE t (id INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.json');
CREATE TABLE o (w TIMESTAMP(3), a BIGINT, b BIGINT, n BIGINT) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
CREATE TABLE p (w TIMESTAMP(3), a BIGINT) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'none');
INSERT INTO o SELECT window_start, SUM(CASE WHEN id > 100 THEN 1 / 0 ELSE 1 END), SUM(COALESCE(id, 1 / 0)), COUNT(*) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY window_start, window_end;
INSERT INTO p SELECT window_start, MAX(1 / 0) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR)) WHERE id = 99 GROUP BY window_start, window_end;
