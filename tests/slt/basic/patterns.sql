-- SIMILAR TO and LIKE … ESCAPE look at the whole text; MOD of decimals; parts of a fraction of a second.
--! input t.json
--| {"s":"foobar","p":"50%_a","d":7.55,"n":10,"t":"2020-02-29 01:56:59.987654"}
--! expect out
--| true | true | true | false | false | true | true | false | 3.00 | 0.05 | 987 | 987654 | 987654000
CREATE TABLE t (s STRING, p STRING, d DECIMAL(10, 2), n DECIMAL(19, 0), t TIMESTAMP(6)) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.json');
CREATE TABLE o (a BOOLEAN, b BOOLEAN, c BOOLEAN, d BOOLEAN, e BOOLEAN, f BOOLEAN, g BOOLEAN, h BOOLEAN, i DECIMAL(10, 2), j DECIMAL(10, 2), k BIGINT, l BIGINT, m BIGINT) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
INSERT INTO o SELECT s SIMILAR TO 'f%r', s SIMILAR TO 'f_obar', s SIMILAR TO '(foo|x)[a-c]{2}r', s SIMILAR TO 'foo', s SIMILAR TO 'fo.bar', s NOT SIMILAR TO 'b%',
p LIKE '50!%!_a' ESCAPE '!', s LIKE 'f!%' ESCAPE '!', MOD(n, 7), MOD(d, 2.5), EXTRACT(MILLISECOND FROM t), EXTRACT(MICROSECOND FROM t), EXTRACT(NANOSECOND FROM t) FROM t;
