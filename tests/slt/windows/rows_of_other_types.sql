-- IN over the rows of a query compares as `=` does: a float beside a decimal as a float, a date beside a timestamp
-- with the timestamp's digits, decimals with all of their digits.
--! input t.csv
--| id,d,f,ts,dt,e
--| 1,1.5,1e20,2024-01-03 00:00:00,2024-01-03,1.000000000000000000000000000001
--| 2,0.10,0.1,2024-01-03 00:00:00,9999-12-31,10000000
--| 3,2.00,1e-20,2024-01-03 00:00:00,2024-01-03,3
--| 4,0.00,0.1,2024-01-03 00:00:00,2024-01-03,0.000000000000000000000000000002
--! expect floats
--| 2
--| 4
--! expect decimals
--| 2
--! expect times
--| 1
--| 2
--| 3
--| 4
--! expect dates
--| 1
--| 3
--| 4
--! expect wide
--| 3
--! expect joined
--| 3 | 3
CREATE TABLE t (id INT, d DECIMAL(10, 2), f DOUBLE, ts TIMESTAMP(3), dt DATE, e DECIMAL(38, 30), WATERMARK FOR ts AS ts)
WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE VIEW w AS SELECT *, CAST(id AS BIGINT) * 1000000000000 / (CASE WHEN id = 3 THEN 1000000000000 ELSE 1 END) AS l
FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' DAY));
CREATE TABLE floats (id INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'floats');
INSERT INTO floats SELECT id FROM w WHERE f IN (SELECT d FROM w AS o WHERE o.window_start = w.window_start AND o.window_end = w.window_end);
CREATE TABLE decimals (id INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'decimals');
INSERT INTO decimals SELECT id FROM w WHERE d IN (SELECT f FROM w AS o WHERE o.window_start = w.window_start AND o.window_end = w.window_end);
CREATE TABLE times (id INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'times');
INSERT INTO times SELECT id FROM w WHERE ts IN (SELECT dt FROM w AS o WHERE o.window_start = w.window_start AND o.window_end = w.window_end);
CREATE TABLE dates (id INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'dates');
INSERT INTO dates SELECT id FROM w WHERE dt IN (SELECT ts FROM w AS o WHERE o.window_start = w.window_start AND o.window_end = w.window_end);
CREATE TABLE wide (id INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'wide');
INSERT INTO wide SELECT id FROM w WHERE e IN (SELECT l FROM w AS o WHERE o.window_start = w.window_start AND o.window_end = w.window_end);
CREATE TABLE joined (a INT, b INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'joined');
INSERT INTO joined SELECT a.id, b.id FROM w AS a JOIN w AS b ON a.window_start = b.window_start AND a.window_end = b.window_end AND a.e = b.l;
