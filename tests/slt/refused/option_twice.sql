--! error E0108
CREATE TABLE t (a INT) WITH ('Connector' = 'print', 'connector' = 'blackhole');
INSERT INTO t SELECT 1;
