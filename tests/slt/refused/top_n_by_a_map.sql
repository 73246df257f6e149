--! error E0106
--! hint take a field
CREATE TABLE t (m MAP<STRING, INT>, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.json');
CREATE TABLE o (m MAP<STRING, INT>) WITH ('connector' = 'blackhole');
INSERT INTO o SELECT m FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY m) AS n
FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' SECOND))) WHERE n <= 3;
