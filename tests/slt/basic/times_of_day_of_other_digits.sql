-- TIME(3) beside a literal, which is TIME(0): the common type has the most digits.
--! input t.csv
--| id,c
--| 1,10:00:00.000
--| 2,11:30:00.250
--| 3,13:00:00.500
--| 4,
--! expect out
--| 1 | TRUE | 10:00:00 | TRUE | TRUE | NULL | 10:00:00 | 10:00:00
--| 2 | TRUE | 11:30:00.250 | FALSE | TRUE | 11:30:00.250 | 11:30:00.250 | 11:30:00.250
--| 3 | TRUE | 13:00:00.500 | FALSE | FALSE | 13:00:00.500 | 13:00:00.500 | 00:00:00
--| 4 | NULL | 00:00:00 | NULL | NULL | NULL | NULL | 00:00:00
--! expect union
--| 10:00:00 | TIME(3)
--| 11:30:00.250 | TIME(3)
--| 12:00:00 | TIME(3)
--| 13:00:00.500 | TIME(3)
--| NULL | TIME(3)
--! expect cases
--| 12:00:00
--| 12:00:00
--| 12:00:00
CREATE TABLE t (id INT, c TIME(3)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (id INT, a STRING, b TIME(3), c STRING, d STRING, e TIME(3), f TIME(3), g TIME(3))
WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
CREATE TABLE u (c TIME(3), k STRING) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'union');
INSERT INTO o SELECT id, CAST(c >= TIME '10:00:00' AS STRING), COALESCE(c, TIME '00:00:00'),
CAST(c IN (TIME '10:00:00', TIME '11:00:00') AS STRING), CAST(c BETWEEN TIME '10:00:00' AND TIME '12:00:00.123456' AS STRING),
NULLIF(c, TIME '10:00:00'), GREATEST(c, TIME '10:00:00'), CASE WHEN c < TIME '12:00:00' THEN c ELSE TIME '00:00:00' END FROM t;
INSERT INTO u SELECT c, TYPEOF(c) FROM (SELECT TIME '12:00:00' AS c UNION ALL SELECT c FROM t);
CREATE TABLE v (c TIME(3)) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'cases');
INSERT INTO v SELECT c FROM (SELECT CASE WHEN id > 1 THEN TIME '12:00:00' ELSE c END AS c FROM t UNION ALL SELECT c FROM t) WHERE c = TIME '12:00:00';
