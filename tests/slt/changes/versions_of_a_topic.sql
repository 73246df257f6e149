-- A topic of upserts has all versions of its keys, and a join asks for that of each order's time, however many of them were
-- read at once.
--! input orders.csv
--| id,cur,ts
--| 1,EUR,2024-01-01 10:30:00
--| 2,EUR,2024-01-01 11:59:59
--| 3,EUR,2024-01-01 12:00:00
--| 4,EUR,2024-01-01 09:59:59
--| 5,USD,2024-01-01 10:15:00
--| 6,USD,2024-01-01 12:30:00
--| 7,,2024-01-01 12:30:00
--! expect joined
--| 1 | 110
--| 2 | 111
--| 3 | 112
--| 4 | NULL
--| 5 | 90
--| 6 | 91
--| 7 | NULL
--! expect matched
--| 1 | 110
--| 2 | 111
--| 5 | 90
CREATE TABLE rates (cur STRING NOT NULL, rate INT, since TIMESTAMP(3), PRIMARY KEY (cur) NOT ENFORCED) WITH ('connector' = 'log', 'changelog' = 'upsert', 'partitions' = '2');
INSERT INTO rates VALUES ('EUR', 110, TIMESTAMP '2024-01-01 10:00:00'), ('USD', 90, TIMESTAMP '2024-01-01 10:00:00');
--! then
CREATE TABLE rates (cur STRING NOT NULL, rate INT, since TIMESTAMP(3), PRIMARY KEY (cur) NOT ENFORCED) WITH ('connector' = 'log', 'changelog' = 'upsert', 'partitions' = '2');
INSERT INTO rates VALUES ('EUR', 111, TIMESTAMP '2024-01-01 11:00:00');
--! then
CREATE TABLE rates (cur STRING NOT NULL, rate INT, since TIMESTAMP(3), PRIMARY KEY (cur) NOT ENFORCED) WITH ('connector' = 'log', 'changelog' = 'upsert', 'partitions' = '2');
INSERT INTO rates VALUES ('EUR', 112, TIMESTAMP '2024-01-01 12:00:00'), ('USD', 91, TIMESTAMP '2024-01-01 12:00:00');
--! then
CREATE TABLE orders (id INT, cur STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '3' HOUR) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'orders.csv', 'csv.null-literal' = '');
CREATE TABLE rates (cur STRING NOT NULL, rate INT, since TIMESTAMP(3), PRIMARY KEY (cur) NOT ENFORCED, WATERMARK FOR since AS since) WITH ('connector' = 'log', 'changelog' = 'upsert', 'scan.bounded.mode' = 'latest-offset');
CREATE TABLE joined (id INT, rate INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'joined');
CREATE TABLE matched (id INT, rate INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'matched');
INSERT INTO joined SELECT o.id, r.rate FROM orders AS o LEFT JOIN rates FOR SYSTEM_TIME AS OF o.ts AS r ON o.cur = r.cur;
INSERT INTO matched SELECT o.id, r.rate FROM orders AS o JOIN rates FOR SYSTEM_TIME AS OF o.ts AS r ON o.cur = r.cur AND r.rate < 112 AND r.rate <> 91;
