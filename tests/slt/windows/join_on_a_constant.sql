-- An equality of which one side comes out as a constant is a condition of the join still.
--! input t.csv
--| id,u,ts
--| 1,ab,2024-01-01 00:00:01
--| 2,b,2024-01-01 00:00:02
--! input l.csv
--| one,id,u
--| 1,1,ab
--| 1,2,b
--! expect out
--| window | 1 | 1
--| window | 2 | 1
--| lookup | 1 | 1
--| lookup | 2 | 1
CREATE TABLE t (id INT, u STRING, ts TIMESTAMP(3), p AS PROCTIME(), WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE l (one INT, id INT, u STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'l.csv');
CREATE TABLE o (w STRING, a INT, b INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
CREATE VIEW w AS SELECT * FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR));
INSERT INTO o SELECT 'window', x.id, y.id FROM w AS x JOIN w AS y ON x.window_start = y.window_start AND x.window_end = y.window_end AND CASE WHEN 'ab' <> '' THEN 'ab' ELSE x.u END = y.u;
INSERT INTO o SELECT 'lookup', t.id, y.id FROM t JOIN l FOR SYSTEM_TIME AS OF t.p AS y ON 1 + ABS(t.id) - ABS(t.id) = y.one AND CASE WHEN 'ab' <> '' THEN 'ab' ELSE t.u END = y.u;
