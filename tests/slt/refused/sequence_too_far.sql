--! error E0203
CREATE TABLE t (a TINYINT) WITH ('connector' = 'datagen', 'fields.a.kind' = 'sequence', 'fields.a.start' = '126', 'fields.a.end' = '130');
CREATE TABLE o (a TINYINT) WITH ('connector' = 'blackhole');
INSERT INTO o SELECT a FROM t;
