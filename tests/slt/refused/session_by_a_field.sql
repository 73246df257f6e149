--! error E0102
--! hint view
CREATE TABLE t (r ROW<a INT>, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.json');
CREATE TABLE o (n BIGINT) WITH ('connector' = 'blackhole');
INSERT INTO o SELECT COUNT(*) FROM TABLE(SESSION(TABLE t PARTITION BY r.a, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end, r.a;
