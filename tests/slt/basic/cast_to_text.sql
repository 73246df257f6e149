-- Texts are Flink's: a time has a blank and the digits of its precision, a float those of Java, bytes are UTF-8.
--! input t.json
--| {"i":1,"b":true,"d":1e20,"f":1.5,"t":"2020-01-02 03:04:05","l":"1969-12-31 23:59:59.9","m":"12:30:00.25","x":"YWLDqQ=="}
--| {"i":2,"b":false,"d":0.00012,"f":10000000,"t":"0099-01-01 00:00:00.001","l":null,"m":"00:00:00","x":""}
--| {"i":3,"b":null,"d":-12345.75,"f":0.001,"t":null,"l":"1970-01-01 00:00:00.000001","m":null,"x":null}
--! expect out
--| 1 | TRUE | 1.0E20 | 1.5 | 2020-01-02 03:04:05.000 | 1969-12-31 23:59:59.900000 | 12:30:00.250 | abé
--| 2 | FALSE | 1.2E-4 | 1.0E7 | 0099-01-01 00:00:00.001 | NULL | 00:00:00.000 | 
--| 3 | NULL | -12345.75 | 0.001 | NULL | 1970-01-01 00:00:00.000001 | NULL | NULL
CREATE TABLE t (i INT, b BOOLEAN, d DOUBLE, f FLOAT, t TIMESTAMP(3), l TIMESTAMP_LTZ(6), m TIME(3), x BYTES) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.json');
CREATE TABLE o (i INT, b STRING, d STRING, f STRING, t STRING, l STRING, m STRING, x STRING) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
INSERT INTO o SELECT i, CAST(b AS STRING), d::STRING, CAST(f AS VARCHAR), '' || t, TRY_CAST(l AS STRING), CAST(m AS STRING), CAST(x AS STRING) FROM t;
