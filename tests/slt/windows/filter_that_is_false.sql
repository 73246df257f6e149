-- A condition that no row can meet, below a window: no rows, and no complaint.
--! input t.csv
--| ts,v
--| 2013-01-01 00:00:01,3
--! expect out
--! expect other
CREATE TABLE t (ts TIMESTAMP(3), v INT, WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE VIEW w AS SELECT ts, COALESCE(v, 0) AS n FROM t;
CREATE TABLE o (s TIMESTAMP(3), n BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
CREATE TABLE p (s TIMESTAMP(3), n BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'other');
INSERT INTO o SELECT window_start, COUNT(*) FROM TABLE(TUMBLE(TABLE w, DESCRIPTOR(ts), INTERVAL '1' SECOND)) WHERE n IS NULL GROUP BY window_start, window_end;
INSERT INTO p SELECT window_start, COUNT(*) FROM TABLE(HOP((SELECT * FROM w WHERE 1 = 0), DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '2' SECOND)) GROUP BY window_start, window_end;
