--! error E0103 at 4:29
--! hint flights
CREATE TABLE flights (a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv'); CREATE TABLE o (a INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT a FROM flihgts;
