-- What stands for "no value" among epoch numbers is no moment: NULL in the column, a dead letter at the window, and
-- the watermark does not hear of it.
--! input in.json
--| {"id": 1, "e": 1704067200000}
--| {"id": 2, "e": 9223372036854775807}
--| {"id": 3, "e": 1704067200000000}
--| {"id": 4, "e": -62167219200001}
--| {"id": 5, "e": 253402300799999}
--| {"id": 6, "e": 1704067260000}
--! expect out
--| 2024-01-01 00:00:00.000 | 1
--| 2024-01-01 00:01:00.000 | 1
--| 9999-12-31 23:59:00.000 | 1
--! dead-letters 3
CREATE TABLE t (id INT, e BIGINT, ts AS TO_TIMESTAMP_LTZ(e, 3), WATERMARK FOR ts AS ts - INTERVAL '9000' YEAR)
WITH ('connector' = 'filesystem', 'path' = 'in.json', 'format' = 'json');
CREATE TABLE o (w TIMESTAMP(3), n BIGINT) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');
INSERT INTO o SELECT window_start, COUNT(*) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end;
