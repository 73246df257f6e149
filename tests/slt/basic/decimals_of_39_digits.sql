-- A decimal that would need 39 digits fails its row; its neighbour stays.
--! input t.json
--| {"id":1,"d":"99999999999999999999999999999999999999","e":"1.5"}
--| {"id":2,"d":"99999999999999999999999999999999999998","e":"1.5"}
--! dead-letters 1
--! expect out
--| 2 | 99999999999999999999999999999999999999
CREATE TABLE t (id INT, d DECIMAL(38, 0), e DECIMAL(10, 1)) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.json');
CREATE TABLE o (id INT, d DECIMAL(38, 0)) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
INSERT INTO o SELECT id, d + 1 FROM t;
