-- Orders at the rate of their time, and with the customer as they were then; whatever died on the way.
--! input orders/1.csv
--| id,cur,cust,amount,ts
--| 1,EUR,1,10,2024-01-01 10:00:00
--| 2,EUR,1,20,2024-01-01 11:00:00
--| 3,USD,2,30,2024-01-01 11:30:00
--| 4,YEN,2,40,2024-01-01 11:45:00
--| 5,EUR,3,50,2024-01-01 09:00:00
--| 6,,1,60,2024-01-01 12:00:00
--| 7,EUR,2,70,2024-01-01 12:10:00
--| 8,USD,1,80,2024-01-01 12:59:59
--! input rates/1.csv
--| cur,rate,since
--| EUR,110,2024-01-01 10:00:00
--| USD,100,2024-01-01 10:00:00
--| EUR,119,2024-01-01 12:00:00
--| EUR,114,2024-01-01 11:00:00
--| YEN,1,2024-01-01 11:45:01
--| USD,90,2024-01-01 12:30:00
--! input customers/1.json
--| {"before": null, "after": {"id": 1, "city": "Ulm", "seen": "2024-01-01 09:30:00"}, "op": "c"}
--| {"before": null, "after": {"id": 2, "city": "Bonn", "seen": "2024-01-01 09:40:00"}, "op": "c"}
--| {"before": {"id": 1, "city": "Ulm", "seen": "2024-01-01 09:30:00"}, "after": {"id": 1, "city": "Jena", "seen": "2024-01-01 10:30:00"}, "op": "u"}
--| {"before": null, "after": {"id": 3, "city": "Kiel", "seen": "2024-01-01 12:00:00"}, "op": "c"}
--| {"before": {"id": 2, "city": "Bonn", "seen": "2024-01-01 09:40:00"}, "after": null, "op": "d"}
--! expect inner
--| 1 | 1100
--| 2 | 2280
--| 3 | 3000
--| 7 | 8330
--| 8 | 7200
--! expect left
--| 1 | 110
--| 2 | 114
--| 3 | 100
--| 4 | NULL
--| 5 | NULL
--| 6 | NULL
--| 7 | 119
--| 8 | 90
--! expect cheap
--| 1 | 110
--| 2 | NULL
--| 3 | 100
--| 4 | NULL
--| 5 | NULL
--| 6 | NULL
--| 7 | NULL
--| 8 | 90
--! expect where
--| 2 | 114
--| 7 | 119
--! expect cities
--| 1 | Ulm
--| 2 | Jena
--| 3 | NULL
--| 4 | NULL
--| 5 | NULL
--| 6 | Jena
--| 7 | NULL
--| 8 | Jena
--! expect wide
--| 1 | Ulm
--| 2 | Jena
--| 3 | NULL
--| 4 | NULL
--| 5 | NULL
--| 6 | Jena
--| 7 | NULL
--| 8 | Jena
--! expect hours
--| 2024-01-01 10:00:00.000 | 1 | 110
--| 2024-01-01 11:00:00.000 | 2 | 214
--| 2024-01-01 12:00:00.000 | 2 | 209
--! expect three
--| 1 | 110 | Ulm
--| 2 | 114 | Jena
--| 8 | 90 | Jena
SET 'execution.checkpointing.interval' = '5 ms';
CREATE TABLE orders (id INT, cur STRING, cust INT, amount INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '4' HOUR) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'orders');
CREATE TABLE rates (cur STRING, rate INT, since TIMESTAMP(3), cents AS rate * 1, PRIMARY KEY (cur) NOT ENFORCED, WATERMARK FOR since AS since - INTERVAL '4' HOUR) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'rates');
CREATE TABLE customers (id INT, city STRING, seen TIMESTAMP(3), PRIMARY KEY (id) NOT ENFORCED, WATERMARK FOR seen AS seen - INTERVAL '4' HOUR) WITH ('connector' = 'filesystem', 'format' = 'debezium-json', 'path' = 'customers');
CREATE VIEW priced AS SELECT o.ts, r.rate FROM orders AS o JOIN rates FOR SYSTEM_TIME AS OF o.ts AS r ON o.cur = r.cur;
CREATE TABLE o_inner (id INT, v INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'inner');
CREATE TABLE o_left (id INT, v INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'left');
CREATE TABLE o_cheap (id INT, v INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'cheap');
CREATE TABLE o_where (id INT, v INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'where');
CREATE TABLE o_cities (id INT, v STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'cities');
CREATE TABLE o_wide (id INT, v STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'wide');
CREATE TABLE o_hours (hour TIMESTAMP(3), n BIGINT, s BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'hours');
CREATE TABLE o_three (id INT, v INT, city STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'three');
INSERT INTO o_inner SELECT o.id, o.amount * r.rate FROM orders AS o JOIN rates FOR SYSTEM_TIME AS OF o.ts AS r ON o.cur = r.cur;
INSERT INTO o_left SELECT o.id, r.cents FROM orders AS o LEFT JOIN rates FOR SYSTEM_TIME AS OF o.ts AS r ON r.cur = o.cur;
-- A version that does not do still ends the one before.
INSERT INTO o_cheap SELECT o.id, r.rate FROM orders AS o LEFT JOIN rates FOR SYSTEM_TIME AS OF o.ts AS r ON o.cur = r.cur AND r.rate < 114 AND o.amount < 90;
INSERT INTO o_where SELECT o.id, r.rate FROM orders AS o JOIN rates FOR SYSTEM_TIME AS OF o.ts AS r ON o.cur = r.cur WHERE r.rate > 110;
INSERT INTO o_cities SELECT o.id, c.city FROM orders AS o LEFT JOIN customers FOR SYSTEM_TIME AS OF o.ts AS c ON o.cust = c.id;
INSERT INTO o_wide SELECT o.id, c.city FROM orders AS o LEFT JOIN customers FOR SYSTEM_TIME AS OF o.ts AS c ON CAST(o.cust AS BIGINT) = c.id;
INSERT INTO o_hours SELECT window_start, COUNT(*), SUM(rate) FROM TABLE(TUMBLE(TABLE priced, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY window_start, window_end;
INSERT INTO o_three SELECT o.id, r.rate, c.city FROM orders AS o JOIN rates FOR SYSTEM_TIME AS OF o.ts AS r ON o.cur = r.cur JOIN customers FOR SYSTEM_TIME AS OF o.ts AS c ON o.cust = c.id;
