-- A hint for a table that the SELECT does not read.
--! error E0103 at 8:15
--! message payments
--! hint did you mean `payment`
CREATE TABLE orders (id BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'o.csv');
CREATE TABLE payments (id BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'p.csv');
CREATE TABLE o (id BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out', 'sink.changelog' = 'log');
INSERT INTO o SELECT /*+ STATE_TTL('payments' = '1 d') */ orders.id FROM orders LEFT JOIN payments AS payment ON orders.id = payment.id;
