--! error E0203
CREATE TABLE t (a INT) WITH ('connector' = 'log', 'topic' = 't', 'scan.startup.timestamp-millis' = '1');
CREATE TABLE o (a INT) WITH ('connector' = 'blackhole');
INSERT INTO o SELECT a FROM t;
