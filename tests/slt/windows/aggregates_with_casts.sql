-- Aggregates and groupings that only a cast tells apart keep apart; AVG of integers truncates, SUM of a wider type does not overflow.
--! input t.csv
--| ts,k,v
--| 2024-01-01 00:00:01.000,7,1
--| 2024-01-01 00:00:02.000,7,2147483646
--| 2024-01-01 00:00:03.000,7,4
--! expect out
--| 7 | 7.00 | 715827883 | 715827883.6666666 | 2147483651 | 3 | 2147483646 | 2147483646
CREATE TABLE t (ts TIMESTAMP(3), k INT, v INT, WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE o (k INT, kd DECIMAL(10, 2), a INT, b DOUBLE, c BIGINT, d BIGINT, e INT, f STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT k, CAST(k AS DECIMAL(10, 2)), AVG(v), AVG(CAST(v AS DOUBLE)), SUM(v::BIGINT), COUNT(v), MAX(v), CAST(MAX(v) AS STRING)
FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end, k, CAST(k AS DECIMAL(10, 2)) HAVING SUM(CAST(v AS BIGINT)) > SUM(CAST(v AS DOUBLE)) - 1;
