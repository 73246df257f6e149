--! error E0203
CREATE TABLE t (a TINYINT) WITH ('connector' = 'datagen', 'number-of-rows' = '200', 'fields.a.kind' = 'sequence');
CREATE TABLE o (a TINYINT) WITH ('connector' = 'blackhole');
INSERT INTO o SELECT a FROM t;
