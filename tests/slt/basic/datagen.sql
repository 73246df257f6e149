-- A sequence from 1 to 1000 in four splits: 1000 rows, of which 1000 / 7 = 142 are multiples of 7; each once.
--! expect out
--| 0 | 994 | 142
CREATE TABLE g (n BIGINT, ts AS TO_TIMESTAMP_LTZ(n, 0), WATERMARK FOR ts AS ts - INTERVAL '1' HOUR)
WITH ('connector' = 'datagen', 'fields.n.kind' = 'sequence', 'fields.n.start' = '1', 'fields.n.end' = '1000', 'splits' = '4');
CREATE TABLE o (w BIGINT, m BIGINT, c BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT UNIX_TIMESTAMP(DATE_FORMAT(window_start, 'yyyy-MM-dd HH:mm:ss')), MAX(n), COUNT(DISTINCT n)
FROM TABLE(TUMBLE(TABLE g, DESCRIPTOR(ts), INTERVAL '1' HOUR)) WHERE n % 7 = 0 GROUP BY window_start, window_end;
