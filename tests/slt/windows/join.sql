-- Both sides in windows of ten seconds. l: a@1, b@2, a@11; r: a@3, c@4, NULL@5. The only pair is a in [0,10).
--! input l.csv
--| ts,k,v
--| 2013-01-01 00:00:01,a,1
--| 2013-01-01 00:00:02,b,2
--| 2013-01-01 00:00:11,a,3
--! input r.csv
--| ts,k,w
--| 2013-01-01 00:00:03,a,10
--| 2013-01-01 00:00:04,c,20
--| 2013-01-01 00:00:05,NA,30
--! expect inner
--| 1 | 10
--! expect left
--| 1 | 10
--| 2 | NULL
--| 3 | NULL
--! expect right
--| 1 | 10
--| NULL | 20
--| NULL | 30
--! expect full
--| 1 | 10
--| 2 | NULL
--| 3 | NULL
--| NULL | 20
--| NULL | 30
CREATE TABLE l (ts TIMESTAMP(3), k STRING, v INT, WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'l.csv');
CREATE TABLE r (ts TIMESTAMP(3), k STRING, w INT, WATERMARK FOR ts AS ts)
WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'r.csv', 'csv.null-literal' = 'NA');
CREATE VIEW lw AS SELECT * FROM TABLE(TUMBLE(TABLE l, DESCRIPTOR(ts), INTERVAL '10' SECOND));
CREATE VIEW rw AS SELECT * FROM TABLE(TUMBLE(TABLE r, DESCRIPTOR(ts), INTERVAL '10' SECOND));
CREATE TABLE i (v INT, w INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'inner');
CREATE TABLE lo (v INT, w INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'left');
CREATE TABLE ro (v INT, w INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'right');
CREATE TABLE fo (v INT, w INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'full');
INSERT INTO i SELECT v, w FROM lw a JOIN rw b ON a.window_start = b.window_start AND a.window_end = b.window_end AND a.k = b.k;
INSERT INTO lo SELECT v, w FROM lw a LEFT JOIN rw b ON a.window_start = b.window_start AND a.window_end = b.window_end AND a.k = b.k;
INSERT INTO ro SELECT v, w FROM lw a RIGHT JOIN rw b ON a.window_start = b.window_start AND a.window_end = b.window_end AND a.k = b.k;
INSERT INTO fo SELECT v, w FROM lw a FULL JOIN rw b ON a.window_start = b.window_start AND a.window_end = b.window_end AND a.k = b.k;
