-- Every kind of window, with state that is written, merged and restored: tumbling, hopping, cumulating, sessions, the
-- best rows of each window, distinct counts, a window over a window, and aggregates over the rows before each row. All sinks are files, so that it can be rolled back.
CREATE TABLE orders (
  id BIGINT,
  customer INT,
  amount INT,
  ts AS TO_TIMESTAMP_LTZ(id * 250, 3),
  WATERMARK FOR ts AS ts - INTERVAL '2' SECOND
) WITH (
  'connector' = 'datagen',
  'number-of-rows' = '3000',
  'rows-per-second' = '900',
  'seed' = '12',
  'fields.id.kind' = 'sequence',
  'fields.id.start' = '1',
  'fields.id.end' = '3000',
  'fields.customer.min' = '1',
  'fields.customer.max' = '60',
  'fields.amount.min' = '1',
  'fields.amount.max' = '500'
);
CREATE TABLE per_minute (start_at TIMESTAMP_LTZ(3), customer INT, orders BIGINT, total BIGINT, kinds BIGINT) WITH (
  'connector' = 'filesystem', 'path' = '/out/per_minute', 'format' = 'csv'
);
CREATE TABLE sliding (start_at TIMESTAMP_LTZ(3), customer INT, largest INT, smallest INT) WITH (
  'connector' = 'filesystem', 'path' = '/out/sliding', 'format' = 'json'
);
CREATE TABLE growing (start_at TIMESTAMP_LTZ(3), end_at TIMESTAMP_LTZ(3), orders BIGINT) WITH (
  'connector' = 'filesystem', 'path' = '/out/growing', 'format' = 'csv'
);
CREATE TABLE visits (customer INT, from_at TIMESTAMP_LTZ(3), to_at TIMESTAMP_LTZ(3), orders BIGINT) WITH (
  'connector' = 'filesystem', 'path' = '/out/visits', 'format' = 'parquet'
);
CREATE TABLE best (start_at TIMESTAMP_LTZ(3), customer INT, id BIGINT, amount INT, place BIGINT) WITH (
  'connector' = 'filesystem', 'path' = '/out/best', 'format' = 'csv'
);
CREATE TABLE busiest (hour_at TIMESTAMP_LTZ(3), customers BIGINT, most BIGINT) WITH (
  'connector' = 'filesystem', 'path' = '/out/busiest', 'format' = 'json'
);
CREATE TABLE running (customer INT, id BIGINT, lately INT, most INT, orders BIGINT) WITH (
  'connector' = 'filesystem', 'path' = '/out/running', 'format' = 'csv'
);
CREATE TEMPORARY VIEW counted AS
  SELECT window_time AS at, customer, COUNT(*) AS orders
  FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
  GROUP BY window_start, window_end, window_time, customer;
EXECUTE STATEMENT SET BEGIN
  INSERT INTO per_minute
    SELECT window_start, customer, COUNT(*), SUM(amount), COUNT(DISTINCT amount)
    FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
    GROUP BY window_start, window_end, customer;
  INSERT INTO sliding
    SELECT window_start, customer, MAX(amount), MIN(amount)
    FROM TABLE(HOP(TABLE orders, DESCRIPTOR(ts), INTERVAL '30' SECOND, INTERVAL '2' MINUTE))
    GROUP BY window_start, window_end, customer;
  INSERT INTO growing
    SELECT window_start, window_end, COUNT(*)
    FROM TABLE(CUMULATE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '5' MINUTE))
    GROUP BY window_start, window_end;
  INSERT INTO visits
    SELECT customer, window_start, window_end, COUNT(*)
    FROM TABLE(SESSION(TABLE orders PARTITION BY customer, DESCRIPTOR(ts), INTERVAL '10' SECOND))
    GROUP BY window_start, window_end, customer;
  INSERT INTO best
    SELECT window_start, customer, id, amount, place FROM (
      SELECT window_start, window_end, customer, id, amount,
             ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY amount DESC, id) AS place
      FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
    ) WHERE place <= 3;
  INSERT INTO busiest
    SELECT window_start, COUNT(*), MAX(orders) FROM TABLE(TUMBLE(
      TABLE counted, DESCRIPTOR(at), INTERVAL '10' MINUTE))
    GROUP BY window_start, window_end;
  INSERT INTO running
    SELECT customer, id, SUM(amount) OVER lately, MAX(amount) OVER lately, COUNT(*) OVER (PARTITION BY customer ORDER BY ts)
    FROM orders
    WINDOW lately AS (PARTITION BY customer ORDER BY ts RANGE BETWEEN INTERVAL '30' SECOND PRECEDING AND CURRENT ROW);
END;
