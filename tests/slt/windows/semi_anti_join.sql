-- EXISTS and NOT EXISTS in the same window: l has a@1, b@2, a@11; r has a@3 only.
--! input l.csv
--| ts,k,v
--| 2013-01-01 00:00:01,a,1
--| 2013-01-01 00:00:02,b,2
--| 2013-01-01 00:00:11,a,3
--! input r.csv
--| ts,k
--| 2013-01-01 00:00:03,a
--| 2013-01-01 00:00:04,a
--! expect semi
--| 1
--! expect anti
--| 2
--| 3
--! expect arrays
--| 1
CREATE TABLE l (ts TIMESTAMP(3), k STRING, v INT, WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'l.csv');
CREATE TABLE r (ts TIMESTAMP(3), k STRING, WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'r.csv');
CREATE VIEW lw AS SELECT * FROM TABLE(TUMBLE(TABLE l, DESCRIPTOR(ts), INTERVAL '10' SECOND));
CREATE VIEW rw AS SELECT * FROM TABLE(TUMBLE(TABLE r, DESCRIPTOR(ts), INTERVAL '10' SECOND));
CREATE TABLE s (v INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'semi');
CREATE TABLE n (v INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'anti');
INSERT INTO s SELECT v FROM lw a WHERE EXISTS (SELECT 1 FROM rw b WHERE a.window_start = b.window_start AND a.window_end = b.window_end AND a.k = b.k);
INSERT INTO n SELECT v FROM lw a WHERE NOT EXISTS (SELECT 1 FROM rw b WHERE a.window_start = b.window_start AND a.window_end = b.window_end AND a.k = b.k);
CREATE TABLE c (v INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'arrays');
INSERT INTO c SELECT v FROM lw a WHERE EXISTS (SELECT 1 FROM rw b WHERE a.window_start = b.window_start AND a.window_end = b.window_end AND ARRAY_CONTAINS(ARRAY[a.k, 'z'], b.k) AND MAP['p', a.k]['p'] = b.k);
