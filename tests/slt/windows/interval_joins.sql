-- Two streams whose times are near: payments within ten seconds of their orders, orders that were never paid, and a
-- window over what was joined.
--! input orders.csv
--| id,customer,at
--| 1,a,2026-01-01 00:00:01
--| 2,b,2026-01-01 00:00:05
--| 3,a,2026-01-01 00:00:20
--| 4,,2026-01-01 00:00:21
--| 5,c,2026-01-01 00:00:40
--! input payments.csv
--| order_id,paid,at
--| 1,10,2026-01-01 00:00:03
--| 1,5,2026-01-01 00:00:11
--| 1,7,2026-01-01 00:00:12
--| 2,20,2026-01-01 00:00:04
--| 3,30,2026-01-01 00:00:20
--| 9,1,2026-01-01 00:00:50
--! expect pairs
--| 1 | 10
--| 1 | 5
--| 3 | 30
--! expect all_of_both
--| 1 | 10
--| 1 | 5
--| 3 | 30
--| 2 | NULL
--| 4 | NULL
--| 5 | NULL
--| NULL | 7
--| NULL | 20
--| NULL | 1
--! expect paid
--| 1 | a
--| 3 | a
--! expect unpaid
--| 2 | b
--| 4 | NULL
--| 5 | c
--! expect sums
--| 2026-01-01 00:00:00 | 15
--| 2026-01-01 00:00:20 | 30
CREATE TABLE orders (id BIGINT, customer STRING, at TIMESTAMP(3), WATERMARK FOR at AS at - INTERVAL '1' SECOND) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'orders.csv', 'csv.null-literal' = '');
CREATE TABLE payments (order_id BIGINT, paid BIGINT, at TIMESTAMP(3), WATERMARK FOR at AS at - INTERVAL '60' SECOND) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'payments.csv');
CREATE TABLE pairs (id BIGINT, paid BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'pairs');
CREATE TABLE all_of_both (id BIGINT, paid BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'all_of_both', 'csv.null-literal' = '\N');
CREATE TABLE paid (id BIGINT, customer STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'paid', 'csv.null-literal' = '\N');
CREATE TABLE unpaid (id BIGINT, customer STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'unpaid', 'csv.null-literal' = '\N');
CREATE TABLE sums (s TIMESTAMP(3), paid BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'sums');
EXECUTE STATEMENT SET BEGIN
  INSERT INTO pairs SELECT o.id, p.paid FROM orders AS o, payments AS p
    WHERE o.id = p.order_id AND p.at BETWEEN o.at AND o.at + INTERVAL '10' SECOND;
  INSERT INTO all_of_both SELECT o.id, p.paid FROM orders AS o FULL JOIN payments AS p
    ON o.id = p.order_id AND p.at >= o.at AND p.at - INTERVAL '10' SECOND <= o.at;
  INSERT INTO paid SELECT id, customer FROM orders AS o WHERE EXISTS (
    SELECT 1 FROM payments AS p WHERE o.id = p.order_id AND p.at BETWEEN o.at AND o.at + INTERVAL '10' SECOND);
  INSERT INTO unpaid SELECT id, customer FROM orders AS o WHERE NOT EXISTS (
    SELECT 1 FROM payments AS p WHERE o.id = p.order_id AND p.at BETWEEN o.at AND o.at + INTERVAL '10' SECOND);
  INSERT INTO sums SELECT window_start, SUM(paid) FROM TABLE(TUMBLE(
      (SELECT o.at, p.paid FROM orders AS o JOIN payments AS p
       ON o.id = p.order_id AND p.at BETWEEN o.at AND o.at + INTERVAL '10' SECOND), DESCRIPTOR(at), INTERVAL '10' SECOND))
    GROUP BY window_start, window_end;
END;
