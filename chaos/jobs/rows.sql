-- Rows that pass through, sorted out and changed: a source in splits, a filter, two sinks.
CREATE TABLE numbers (
  id BIGINT,
  amount INT,
  name STRING
) WITH (
  'connector' = 'datagen',
  'number-of-rows' = '3000',
  'rows-per-second' = '900',
  'seed' = '11',
  'fields.id.kind' = 'sequence',
  'fields.id.start' = '1',
  'fields.id.end' = '3000',
  'fields.amount.min' = '1',
  'fields.amount.max' = '1000',
  'fields.name.length' = '8'
);
CREATE TABLE large (id BIGINT, doubled INT, name STRING) WITH (
  'connector' = 'filesystem', 'path' = '/out/large', 'format' = 'csv'
);
CREATE TABLE small (id BIGINT, amount INT) WITH (
  'connector' = 'log', 'topic' = 'small'
);
EXECUTE STATEMENT SET BEGIN
  INSERT INTO large SELECT id, amount * 2, UPPER(name) FROM numbers WHERE amount > 300;
  INSERT INTO small SELECT id, amount FROM numbers WHERE amount <= 300;
END;
