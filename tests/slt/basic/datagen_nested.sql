-- Arrays, maps and rows are made of their parts.
--! expect out
--| 2 | 3 | true | true
--| 2 | 3 | true | true
CREATE TABLE t (l ARRAY<INT>, m MAP<STRING, BIGINT>, r ROW<x DOUBLE, y STRING>) WITH ('connector' = 'datagen', 'number-of-rows' = '2', 'fields.l.length' = '2',
  'fields.l.element.min' = '5', 'fields.l.element.max' = '6', 'fields.r.x.min' = '0', 'fields.r.x.max' = '1', 'fields.r.y.length' = '4');
CREATE TABLE o (a INT, b INT, c BOOLEAN, d BOOLEAN) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT CARDINALITY(l), CARDINALITY(m), l[1] >= 5 AND l[2] <= 6, r.x BETWEEN 0 AND 1 AND CHAR_LENGTH(r.y) = 4 FROM t;
