--! error E0108
CREATE TABLE t (r ROW<a INT, A STRING>) WITH ('connector' = 'blackhole');
INSERT INTO t SELECT NULL;
