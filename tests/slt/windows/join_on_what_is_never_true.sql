-- A condition with a part that is a constant still says which windows meet: what it never lets match is padded.
--! input t.csv
--| ts,id
--| 2013-01-01 00:00:01,1
--| 2013-01-01 00:00:12,2
--! expect left
--| 1 | NULL
--| 2 | NULL
--! expect full
--| 1 | NULL
--| 2 | NULL
--| NULL | 1
--| NULL | 2
--! expect inner
--! expect lookup
--| 1 | NULL
--| 2 | NULL
--! expect lookup_inner
--| 1 | 1
--| 2 | 2
CREATE TABLE t (ts TIMESTAMP(3), id INT, p AS PROCTIME(), WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE d (ts TIMESTAMP(3), id INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE VIEW w AS SELECT window_start, window_end, id FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end, id;
CREATE TABLE lt (l INT, r INT) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'left');
CREATE TABLE fl (l INT, r INT) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'full');
CREATE TABLE nr (l INT, r INT) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'inner');
CREATE TABLE lk (l INT, r INT) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'lookup');
CREATE TABLE lj (l INT, r INT) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'lookup_inner');
INSERT INTO lt SELECT l.id, r.id FROM w l LEFT JOIN w r ON l.window_start = r.window_start AND l.window_end = r.window_end AND l.id = r.id AND 1 = 0;
INSERT INTO fl SELECT l.id, r.id FROM w l FULL JOIN w r ON l.window_start = r.window_start AND l.window_end = r.window_end AND l.id = r.id AND 'a' = 'b';
INSERT INTO nr SELECT l.id, r.id FROM w l JOIN w r ON l.window_start = r.window_start AND l.window_end = r.window_end AND l.id = r.id AND FALSE;
INSERT INTO lk SELECT t.id, x.id FROM t LEFT JOIN d FOR SYSTEM_TIME AS OF t.p AS x ON t.id = x.id AND 'prod' = 'test';
INSERT INTO lj SELECT t.id, x.id FROM t JOIN d FOR SYSTEM_TIME AS OF t.p AS x ON t.id = x.id AND 'prod' = 'prod';
