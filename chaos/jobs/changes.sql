-- Tables that change: groups of all rows and groups of those, every join of them that there is, sets, and first rows.
SET 'table.exec.mini-batch.allow-latency' = '100 ms';
CREATE TABLE orders (
  id BIGINT,
  customer INT,
  amount BIGINT
) WITH (
  'connector' = 'datagen', 'number-of-rows' = '2000', 'rows-per-second' = '600', 'seed' = '15',
  'fields.id.kind' = 'sequence', 'fields.id.start' = '1', 'fields.id.end' = '2000',
  'fields.customer.min' = '1', 'fields.customer.max' = '80',
  'fields.amount.min' = '1', 'fields.amount.max' = '25'
);
CREATE TABLE payments (
  order_id BIGINT,
  paid BIGINT
) WITH (
  'connector' = 'datagen', 'number-of-rows' = '1200', 'rows-per-second' = '400', 'seed' = '16',
  'fields.order_id.min' = '1', 'fields.order_id.max' = '2400',
  'fields.paid.min' = '1', 'fields.paid.max' = '25'
);
CREATE TABLE customers (customer INT, orders BIGINT, amounts BIGINT, large BIGINT, least BIGINT, most BIGINT) WITH (
  'connector' = 'filesystem', 'path' = '/out/customers', 'format' = 'csv', 'sink.changelog' = 'log'
);
CREATE TABLE by_count (orders BIGINT, customers BIGINT, least INT, most INT) WITH (
  'connector' = 'filesystem', 'path' = '/out/by_count', 'format' = 'parquet', 'sink.changelog' = 'log'
);
CREATE TABLE paid (id BIGINT, customer INT, amount BIGINT, paid BIGINT) WITH (
  'connector' = 'filesystem', 'path' = '/out/paid', 'format' = 'json', 'sink.changelog' = 'log'
);
CREATE TABLE standing (id BIGINT, order_id BIGINT, amount BIGINT, paid BIGINT) WITH (
  'connector' = 'filesystem', 'path' = '/out/standing', 'format' = 'csv', 'sink.changelog' = 'log'
);
CREATE TABLE waiting (id BIGINT, customer INT) WITH (
  'connector' = 'filesystem', 'path' = '/out/waiting', 'format' = 'csv', 'sink.changelog' = 'log'
);
CREATE TABLE known (id BIGINT) WITH (
  'connector' = 'filesystem', 'path' = '/out/known', 'format' = 'csv', 'sink.changelog' = 'log'
);
CREATE TABLE best (customer INT, id BIGINT, amount BIGINT, place BIGINT) WITH (
  'connector' = 'filesystem', 'path' = '/out/best', 'format' = 'csv', 'sink.changelog' = 'log'
);
CREATE TABLE loyal (customer INT, orders BIGINT) WITH (
  'connector' = 'filesystem', 'path' = '/out/loyal', 'format' = 'csv', 'sink.changelog' = 'log'
);
CREATE TEMPORARY VIEW sums AS SELECT order_id, COUNT(*) AS n, SUM(paid) AS paid FROM payments GROUP BY order_id;
EXECUTE STATEMENT SET BEGIN
  INSERT INTO customers
    SELECT customer, COUNT(*), COUNT(DISTINCT amount), COUNT(DISTINCT amount) FILTER (WHERE amount > 20), MIN(amount), MAX(amount)
    FROM orders GROUP BY customer;
  INSERT INTO by_count
    SELECT n, COUNT(*), MIN(customer), MAX(customer)
    FROM (SELECT customer, COUNT(*) AS n FROM orders GROUP BY customer) AS c GROUP BY n;
  INSERT INTO paid
    SELECT o.id, o.customer, o.amount, s.paid FROM orders AS o JOIN sums AS s ON o.id = s.order_id AND s.paid >= o.amount;
  INSERT INTO standing
    SELECT o.id, s.order_id, o.amount, s.paid FROM orders AS o FULL JOIN sums AS s ON o.id = s.order_id;
  INSERT INTO waiting
    SELECT id, customer FROM orders WHERE NOT EXISTS (SELECT 1 FROM sums WHERE sums.order_id = orders.id AND sums.paid >= orders.amount);
  INSERT INTO best
    SELECT customer, id, amount, place FROM (
      SELECT *, ROW_NUMBER() OVER (PARTITION BY customer ORDER BY amount DESC) AS place FROM orders) WHERE place <= 3;
  INSERT INTO loyal
    SELECT customer, n FROM (
      SELECT *, RANK() OVER (ORDER BY n DESC) AS place FROM (SELECT customer, COUNT(*) AS n FROM orders GROUP BY customer))
    WHERE place <= 5;
  INSERT INTO known
    (SELECT order_id FROM payments INTERSECT SELECT id FROM orders) UNION (SELECT order_id FROM payments EXCEPT SELECT id FROM orders);
END;
