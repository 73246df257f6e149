--! error E0106
--! hint take a field
CREATE TABLE t (r ROW<a INT, b ARRAY<INT>>, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.json');
CREATE TABLE o (r ROW<a INT, b ARRAY<INT>>) WITH ('connector' = 'blackhole');
INSERT INTO o SELECT MIN(r) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' SECOND)) GROUP BY window_start, window_end;
