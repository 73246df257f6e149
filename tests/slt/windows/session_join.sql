-- Sessions of two tables that begin and end together, in every kind of join.
--! input a/1.csv
--| k,v,ts
--| x,1,2024-01-01 10:00:00
--| x,2,2024-01-01 10:03:00
--| y,3,2024-01-01 10:00:00
--| x,4,2024-01-01 11:00:00
--| z,5,2024-01-01 10:30:00
--! input b/1.csv
--| k,v,ts
--| x,10,2024-01-01 10:00:00
--| x,20,2024-01-01 10:03:00
--| y,30,2024-01-01 10:01:00
--| x,40,2024-01-01 11:00:00
--| w,50,2024-01-01 10:30:00
--! expect inner
--| x | 1 | 10
--| x | 1 | 20
--| x | 2 | 10
--| x | 2 | 20
--| x | 4 | 40
--! expect full
--| x | 1 | 10
--| x | 1 | 20
--| x | 2 | 10
--| x | 2 | 20
--| x | 4 | 40
--| y | 3 | NULL
--| z | 5 | NULL
--| NULL | NULL | 30
--| NULL | NULL | 50
--! expect lonely
--| y | 3
--| z | 5
SET 'execution.checkpointing.interval' = '5 ms';
CREATE TABLE a (k STRING, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '2' HOUR) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'a');
CREATE TABLE b (k STRING, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '2' HOUR) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'b');
CREATE VIEW l AS SELECT * FROM TABLE(SESSION(TABLE a PARTITION BY k, DESCRIPTOR(ts), INTERVAL '5' MINUTE));
CREATE VIEW r AS SELECT * FROM TABLE(SESSION(TABLE b PARTITION BY k, DESCRIPTOR(ts), INTERVAL '5' MINUTE));
CREATE TABLE o_inner (k STRING, a INT, b INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'inner');
CREATE TABLE o_full (k STRING, a INT, b INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'full');
CREATE TABLE o_lonely (k STRING, a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'lonely');
INSERT INTO o_inner SELECT l.k, l.v, r.v FROM l JOIN r ON l.window_start = r.window_start AND l.window_end = r.window_end AND l.k = r.k;
INSERT INTO o_full SELECT l.k, l.v, r.v FROM l FULL JOIN r ON l.window_start = r.window_start AND l.window_end = r.window_end AND l.k = r.k;
INSERT INTO o_lonely SELECT k, v FROM l WHERE NOT EXISTS (SELECT 1 FROM r WHERE l.window_start = r.window_start AND l.window_end = r.window_end AND l.k = r.k);
