--! error E0106
--! hint UNIX_TIMESTAMP
CREATE TABLE t (t TIMESTAMP(3)) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.json');
CREATE TABLE o (n BIGINT) WITH ('connector' = 'blackhole');
INSERT INTO o SELECT CAST(t AS BIGINT) FROM t;
