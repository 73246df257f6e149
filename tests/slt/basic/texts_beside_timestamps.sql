-- A text beside a timestamp is one, with the digits that it has: all years from 1 to 9999 have a place there.
--! input t.csv
--| id,t,s,dt
--| 1,9999-12-31 00:00:00,9999-12-31,9999-12-31
--| 2,2024-01-02 00:00:00,2024-01-02 00:00:00.000,2024-01-01
--| 3,0001-01-01 00:00:00,2024-01-01 00:00:00.1234,0001-01-01
--! expect compared
--| 1 | true | false | true | true | true | true | false | true
--| 2 | true | true | false | true | true | true | false | true
--| 3 | false | true | false | true | false | false | false | false
--! expect chosen
--| 1 | 9999-12-31 00:00:00.000 | 9999-12-31 00:00:00.000 | 9999-12-31 00:00:00.000
--| 2 | 2024-01-02 00:00:00.000 | NULL | 2024-05-05 01:02:03.000
--| 3 | 0001-01-01 00:00:00.000 | 0001-01-01 00:00:00.000 | 2024-05-05 01:02:03.000
--! expect dates
--| 1 | true | false | 2
--| 2 | true | true | 1
--| 3 | false | false | 2
CREATE TABLE t (id INT, t TIMESTAMP(3), s STRING, dt DATE) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE compared (id INT, a BOOLEAN, b BOOLEAN, c BOOLEAN, d BOOLEAN, e BOOLEAN, f BOOLEAN, g BOOLEAN, h BOOLEAN) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'compared');
INSERT INTO compared SELECT id, t > '2024-01-01', t < '9999-12-31', t = '9999-12-31', t >= '0001-01-01', t BETWEEN '2024-01-01' AND '9999-12-31',
  t IN ('2024-01-02', '9999-12-31'), t = '2024-01-02 00:00:00.0001', t >= s FROM t;
CREATE TABLE chosen (id INT, a TIMESTAMP(3), b TIMESTAMP(3), c TIMESTAMP(3)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'chosen');
INSERT INTO chosen SELECT id, COALESCE(t, '2024-01-01'), NULLIF(t, '2024-01-02'), IF(id = 1, t, '2024-05-05 01:02:03') FROM t;
CREATE TABLE dates (id INT, a BOOLEAN, b BOOLEAN, c INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'dates');
INSERT INTO dates SELECT id, dt BETWEEN '2024-01-01' AND t, dt IN ('2024-01-01', TIMESTAMP '2024-01-02 00:00:00'), CASE dt WHEN '2024-01-01' THEN 1 WHEN t THEN 2 END FROM t;
