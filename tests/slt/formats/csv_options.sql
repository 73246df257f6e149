-- Delimiter, quote, escape by doubling, comments, columns by position without a header.
--! input t.csv
--| # a comment
--| 1;'a;b'
--| 2;'it''s'
--! expect out
--| 1 | a;b
--| 2 | it's
CREATE TABLE t (a INT, s STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv',
  'csv.field-delimiter' = ';', 'csv.quote-character' = '''', 'csv.allow-comments' = 'true', 'csv.header' = 'false');
CREATE TABLE o (a INT, s STRING) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out', 'csv.field-delimiter' = '|', 'csv.header' = 'false');
INSERT INTO o SELECT a, s FROM t;
