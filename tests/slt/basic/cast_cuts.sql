-- A cast to fewer digits of a second cuts, before 1970 too; so does writing into a narrower column. A number's text may have a fraction.
--! input t.json
--| {"t":"1969-12-31 23:59:59.999999999","m":"12:30:00.256","n":"12.9"}
--| {"t":"2020-01-01 00:00:00.123456789","m":"12:30:00","n":"-3"}
--| {"t":null,"m":null,"n":"x.5"}
--! expect out
--| 1969-12-31 23:59:59 | 1969-12-31 23:59:59.9999 | 1969-12-31 23:59:59.999 | 12:30:00.200 | 12
--| 2020-01-01 00:00:00 | 2020-01-01 00:00:00.1234 | 2020-01-01 00:00:00.123 | 12:30:00 | -3
--| NULL | NULL | NULL | NULL | NULL
CREATE TABLE t (t TIMESTAMP(9), m TIME(3), n STRING) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.json');
CREATE TABLE o (a TIMESTAMP(3), b TIMESTAMP(6), c TIMESTAMP(3), m TIME(3), n INT) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
INSERT INTO o SELECT CAST(t AS TIMESTAMP(0)), t::TIMESTAMP(4), t, CAST(m AS TIME(1)), TRY_CAST(n AS INT) FROM t;
