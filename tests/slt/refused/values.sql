-- Rows written in the script are refused so far.
--! error E0102 at 6:13
--! hint filesystem
CREATE TABLE o (a INT, b STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');

INSERT INTO o VALUES (1, 'a'), (2, NULL);
