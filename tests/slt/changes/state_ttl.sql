-- Hints of how long state is kept change no answer while nothing gets so old: joins of each kind, several joins, groups,
-- first rows, and a hint that keeps for ever what the job would forget.
--! input o.csv
--| id,customer,amount
--| 1,a,10
--| 2,b,20
--| 3,a,5
--| 4,c,7
--| 5,,1
--! input p.csv
--| order_id,paid
--| 1,10
--| 2,5
--| 2,15
--| 9,3
--! input c.csv
--| customer,name
--| a,Ann
--| b,Bob
--| d,Dan
--! changes joined
--| 1 | a | 10
--| 2 | b | 5
--| 2 | b | 15
--| 3 | a | NULL
--| 4 | c | NULL
--| 5 | NULL | NULL
--! changes twice
--| Ann | 1 | 10
--| Bob | 2 | 5
--| Bob | 2 | 15
--| Ann | 3 | NULL
--| Dan | NULL | NULL
--! changes unpaid
--| 3
--| 4
--| 5
--! changes totals
--| a | 15
--| b | 20
--| c | 7
--| NULL | 1
--! changes largest
--| a | 10
--| b | 20
--| c | 7
--| NULL | 1
SET 'execution.checkpointing.interval' = '5 ms';
SET 'table.exec.state.ttl' = '1 d';
CREATE TABLE orders (id BIGINT, customer STRING, amount BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'o.csv', 'csv.null-literal' = '');
CREATE TABLE payments (order_id BIGINT, paid BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'p.csv');
CREATE TABLE customers (customer STRING, name STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'c.csv');
CREATE TABLE joined (id BIGINT, customer STRING, paid BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'joined', 'sink.changelog' = 'log');
CREATE TABLE twice (name STRING, id BIGINT, paid BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'twice', 'sink.changelog' = 'log');
CREATE TABLE unpaid (id BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'unpaid', 'sink.changelog' = 'log');
CREATE TABLE totals (customer STRING, amount BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'totals', 'sink.changelog' = 'log');
CREATE TABLE largest (customer STRING, amount BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'largest', 'sink.changelog' = 'log');
EXECUTE STATEMENT SET BEGIN
  INSERT INTO joined SELECT /*+ STATE_TTL('o' = '1 h', 'payments' = '2 h') */ o.id, o.customer, paid
    FROM orders AS o LEFT JOIN payments ON o.id = order_id;
  INSERT INTO twice SELECT /*+ state_ttl(c = '0 s') STATE_TTL('o' = '1 h') */ c.name, o.id, p.paid
    FROM customers AS c LEFT JOIN (SELECT DISTINCT * FROM orders) AS o ON c.customer = o.customer LEFT JOIN payments AS p ON o.id = p.order_id;
  INSERT INTO unpaid SELECT /*+ STATE_TTL('orders' = '1 min') */ id FROM orders WHERE NOT EXISTS (SELECT /*+ STATE_TTL('payments' = '2 min') */ 1 FROM payments WHERE order_id = orders.id);
  INSERT INTO totals SELECT /*+ STATE_TTL('orders' = '3 d') */ customer, SUM(amount) FROM orders GROUP BY customer;
  INSERT INTO largest SELECT /*+ STATE_TTL('r' = '3 d') */ customer, amount
    FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY customer ORDER BY amount DESC) AS n FROM orders) AS r WHERE n = 1;
END;
