-- Tables that are kept by their keys, in buckets and as one plain file, rows that meet the version of their time, and
-- windows that are told before they close.
SET 'table.exec.emit.early-fire.enabled' = 'true';
SET 'table.exec.emit.early-fire.delay' = '1500 ms';
SET 'table.exec.emit.late-fire.enabled' = 'true';
SET 'table.exec.emit.late-fire.delay' = '300 ms';
SET 'window.allowed-lateness' = '20 s';
SET 'table.exec.mini-batch.allow-latency' = '100 ms';
CREATE TABLE orders (
  id BIGINT,
  product INT,
  amount BIGINT,
  ts AS TO_TIMESTAMP_LTZ(id * 200, 3),
  WATERMARK FOR ts AS ts - INTERVAL '1' SECOND
) WITH (
  'connector' = 'datagen', 'number-of-rows' = '2000', 'rows-per-second' = '600', 'seed' = '21',
  'fields.id.kind' = 'sequence', 'fields.id.start' = '1', 'fields.id.end' = '2000',
  'fields.product.min' = '1', 'fields.product.max' = '60',
  'fields.amount.min' = '1', 'fields.amount.max' = '25'
);
CREATE TABLE prices (
  id BIGINT,
  product INT,
  since AS TO_TIMESTAMP_LTZ(id * 400 - 50, 3),
  PRIMARY KEY (product) NOT ENFORCED,
  WATERMARK FOR since AS since - INTERVAL '2' SECOND
) WITH (
  'connector' = 'datagen', 'number-of-rows' = '1000', 'rows-per-second' = '300', 'seed' = '22',
  'fields.id.kind' = 'sequence', 'fields.id.start' = '1', 'fields.id.end' = '1000',
  'fields.product.min' = '1', 'fields.product.max' = '60'
);
CREATE TABLE products (product INT, orders BIGINT, amount BIGINT, PRIMARY KEY (product) NOT ENFORCED) WITH (
  'connector' = 'filesystem', 'path' = '/out/products', 'format' = 'csv', 'sink.changelog' = 'table'
);
CREATE TABLE by_count (orders BIGINT, products BIGINT, least INT, PRIMARY KEY (orders) NOT ENFORCED) WITH (
  'connector' = 'filesystem', 'path' = '/out/by_count', 'format' = 'parquet', 'sink.changelog' = 'table',
  'sink.table.retention' = '2 s'
);
CREATE TABLE top (place BIGINT, product INT, orders BIGINT, PRIMARY KEY (place) NOT ENFORCED) WITH (
  'connector' = 'filesystem', 'path' = '/out/top.csv', 'format' = 'csv', 'sink.changelog' = 'table'
);
CREATE TABLE priced (id BIGINT, product INT, price BIGINT) WITH (
  'connector' = 'filesystem', 'path' = '/out/priced', 'format' = 'json'
);
CREATE TABLE known (product INT, orders BIGINT, price BIGINT, PRIMARY KEY (product) NOT ENFORCED) WITH (
  'connector' = 'filesystem', 'path' = '/out/known', 'format' = 'arrow', 'sink.changelog' = 'table'
);
CREATE TABLE minutes (at TIMESTAMP_LTZ(3), until TIMESTAMP_LTZ(3), product INT, n BIGINT, kinds BIGINT, PRIMARY KEY (at, until, product) NOT ENFORCED) WITH (
  'connector' = 'filesystem', 'path' = '/out/minutes', 'format' = 'csv', 'sink.changelog' = 'table'
);
CREATE TEMPORARY VIEW counted AS SELECT product, COUNT(*) AS n, SUM(amount) AS amount FROM orders GROUP BY product;
EXECUTE STATEMENT SET BEGIN
  INSERT INTO products SELECT product, n, amount FROM counted;
  INSERT INTO by_count SELECT n, COUNT(*), MIN(product) FROM counted GROUP BY n;
  INSERT INTO top
    SELECT place, product, n FROM (SELECT *, ROW_NUMBER() OVER (ORDER BY n DESC, product) AS place FROM counted) WHERE place <= 5;
  INSERT INTO priced
    SELECT o.id, o.product, p.id FROM orders AS o LEFT JOIN prices FOR SYSTEM_TIME AS OF o.ts AS p ON o.product = p.product;
  INSERT INTO known
    SELECT o.product, COUNT(*), MAX(p.id) FROM orders AS o
    JOIN prices FOR SYSTEM_TIME AS OF o.ts AS p ON o.product = p.product AND p.id > 20 GROUP BY o.product;
  INSERT INTO minutes
    SELECT window_start, window_end, product, COUNT(*), COUNT(DISTINCT amount)
    FROM TABLE(HOP(TABLE orders, DESCRIPTOR(ts), INTERVAL '20' SECOND, INTERVAL '60' SECOND)) GROUP BY window_start, window_end, product;
END;
