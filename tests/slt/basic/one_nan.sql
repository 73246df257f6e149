-- The NaN that a computation gives is the NaN that stands in a file, above all values; -0.0 is 0.0.
--! input t.jsonl
--| {"z": 0.0, "o": 1.0, "n": "NaN"}
--! expect out
--| true | false | true | true | NaN | 0.0 | NULL | z | true | false
CREATE TABLE t (z DOUBLE, o DOUBLE, n STRING) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.jsonl');
CREATE TABLE o (a BOOLEAN, b BOOLEAN, c BOOLEAN, d BOOLEAN, e STRING, f STRING, g DOUBLE, h STRING, i BOOLEAN, j BOOLEAN) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
INSERT INTO o SELECT z / z > o, z / z < o, z / z = CAST(n AS DOUBLE), z / z IN (o, CAST(n AS DOUBLE)), CAST(GREATEST(z, -CAST(n AS DOUBLE)) AS STRING),
CAST(LEAST(z, -CAST(n AS DOUBLE)) AS STRING), NULLIF(-z, z), CASE -z WHEN 0e0 THEN 'z' ELSE 'n' END, z / z IS NOT DISTINCT FROM CAST(n AS DOUBLE), z / z BETWEEN z AND o FROM t;
