-- The option would do nothing.
--! error E0203 at t
--! hint WATERMARK FOR
CREATE TABLE t (a INT) WITH ('connector' = 'filesystem', 'path' = 't.csv', 'format' = 'csv', 'scan.watermark.alignment.max-drift' = '1 min');
CREATE TABLE o (a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT a FROM t;
