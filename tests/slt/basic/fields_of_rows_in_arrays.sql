-- ra[1].a, at any depth; an index beyond the array is NULL.
--! input t.json
--| {"id":1,"ra":[{"a":1,"b":{"c":"x"}},{"a":2,"b":{"c":"y"}}],"r":{"ra":[{"a":9}]}}
--| {"id":2,"ra":[{"a":3}],"r":null}
--! expect out
--| 1 | y | 9 | true
--| 3 | NULL | NULL | false
CREATE TABLE t (id INT, ra ARRAY<ROW<a INT, b ROW<c STRING>>>, r ROW<ra ARRAY<ROW<a INT>>>, first_a AS ra[1].a)
WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.json');
CREATE TABLE o (a INT, b STRING, c INT, d BOOLEAN) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
INSERT INTO o SELECT ra[1].a, x.ra[2].b.c, x.r.ra[1].a, first_a = 1 FROM t AS x WHERE ra[1].a > 0;
