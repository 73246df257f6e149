-- An array inside of a row is unnested by its path.
--! input t.json
--| {"id":1,"payload":{"op":"c","items":[{"sku":"a","qty":2},{"sku":"b","qty":3}]}}
--| {"id":2,"payload":{"op":"d","items":[]}}
--! expect out
--| 1 | a | 2
--| 1 | b | 3
--! expect short
--| 1 | a
--| 1 | b
CREATE TABLE cdc (id INT, payload ROW<op STRING, items ARRAY<ROW<sku STRING, qty INT>>>) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.json');
CREATE TABLE o (id INT, sku STRING, qty INT) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
CREATE TABLE p (id INT, sku STRING) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'short');
INSERT INTO o SELECT c.id, i.sku, i.qty FROM cdc AS c CROSS JOIN UNNEST(c.payload.items) AS i (sku, qty);
INSERT INTO p SELECT id, sku FROM cdc CROSS JOIN UNNEST(payload.items) AS i (sku, qty);
