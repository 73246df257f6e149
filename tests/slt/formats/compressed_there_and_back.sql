-- Written as gzip and zstd, and read again by a second script.
--! input t.csv
--| a,s
--| 1,x
--| 2,"y, z"
--! expect zipped
--| 1 | x
--| 2 | y, z
--! expect squeezed
--| 1 | x
--| 2 | y, z
--! expect out
--| 1 | x
--| 2 | y, z
--| 1 | x
--| 2 | y, z
CREATE TABLE t (a INT, s STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE z (a INT, s STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'zipped', 'compression' = 'gzip');
CREATE TABLE y (a INT, s STRING) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'squeezed', 'compression' = 'zstd');
INSERT INTO z SELECT * FROM t;
INSERT INTO y SELECT * FROM t;
--! then
CREATE TABLE z (a INT, s STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'zipped');
CREATE TABLE y (a INT, s STRING) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'squeezed');
CREATE TABLE o (a INT, s STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT * FROM z UNION ALL SELECT * FROM y;
