-- A time to live that is none.
--! error E0112 at 6:22
--! message no time to live of `t`
CREATE TABLE t (id BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (id BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out', 'sink.changelog' = 'log');
INSERT INTO o SELECT /*+ STATE_TTL('t' = 'a while') */ id FROM t GROUP BY id;
