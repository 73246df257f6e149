-- Functions at their edges, with the values of Flink's own tests.
--! input t.json
--| {"re":"(","s":"abc","u":"invalid://user:pass@host/file;param?query;p2"}
--! expect out
--| {"k1":"v1","k2":" v2"} | {} | {"a":"3","b":"2"} | NULL | NULL | www.apache.org | www.phe.org | NULL | [null,""] | 2 | xx | -a--c- | NULL | 2020/01 | DOUBLE | INT | -1 | NULL | NULL | false | NaN
CREATE TABLE t (re STRING, s STRING, u STRING) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.json');
CREATE TABLE o (a MAP<STRING, STRING>, b MAP<STRING, STRING>, c MAP<STRING, STRING>, d STRING, e STRING, f STRING, g STRING, h STRING,
i ARRAY<STRING>, j INT, k STRING, l STRING, m STRING, n STRING, p STRING, q STRING, r INT, s STRING, v STRING, w BOOLEAN, x STRING)
WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
INSERT INTO o SELECT STR_TO_MAP('k1$$v1|k2$$ v2', '\|', '\$\$'), STR_TO_MAP(''), STR_TO_MAP('a=1,b=2,a=3'), PARSE_URL(u, 'QUERY'), SPLIT_INDEX('AQIDBA==', 256, 0),
TRANSLATE('www.apache.org', NULL, '123'), TRANSLATE('www.apache.org', 'abc', NULL), LPAD('a', 1, ''),
REGEXP_EXTRACT_ALL('abcdeabde', '(abcdeabde)|([a-z]*)', 2), REGEXP_COUNT(s, '[a-z]*'), REGEXP_REPLACE(s, '[a-z]*', 'x'), REGEXP_REPLACE(s, 'b*', '-'),
DATE_FORMAT(s, 'yyyy'), DATE_FORMAT('2020-01-02', 'yyyy/MM'), TYPEOF(CAST(1 AS FLOAT) + 1.5), TYPEOF(SIGN(-5)), SIGN(-5),
REGEXP_EXTRACT(s, re), REGEXP_REPLACE(s, re, ''), REGEXP(s, re), CAST(SQRT(-1) AS STRING) FROM t;
