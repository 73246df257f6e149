-- Every simple type through Parquet and back.
--! input t.csv
--| i,l,d,b,s,t,e,n
--| 1,2,1.5,true,x,2013-01-01 10:00:00.123,2013-01-31,12.34
--| NA,NA,NA,NA,NA,NA,NA,NA
--! expect pq
--| 1 | 2 | 1.5 | true | x | 2013-01-01 10:00:00.123 | 2013-01-31 | 12.34
--| NULL | NULL | NULL | NULL | NULL | NULL | NULL | NULL
--! expect out
--| 1 | 2 | 1.5 | true | x | 2013-01-01 10:00:00.123 | 2013-01-31 | 12.34
--| NULL | NULL | NULL | NULL | NULL | NULL | NULL | NULL
CREATE TABLE t (i INT, l BIGINT, d DOUBLE, b BOOLEAN, s STRING, t TIMESTAMP(3), e DATE, n DECIMAL(10, 2))
WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv', 'csv.null-literal' = 'NA');
CREATE TABLE p (i INT, l BIGINT, d DOUBLE, b BOOLEAN, s STRING, t TIMESTAMP(3), e DATE, n DECIMAL(10, 2))
WITH ('connector' = 'filesystem', 'format' = 'parquet', 'path' = 'pq');
INSERT INTO p SELECT * FROM t;
--! then
CREATE TABLE p (i INT, l BIGINT, d DOUBLE, b BOOLEAN, s STRING, t TIMESTAMP(3), e DATE, n DECIMAL(10, 2))
WITH ('connector' = 'filesystem', 'format' = 'parquet', 'path' = 'pq');
CREATE TABLE o (i INT, l BIGINT, d DOUBLE, b BOOLEAN, s STRING, t TIMESTAMP(3), e DATE, n DECIMAL(10, 2)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'out');
INSERT INTO o SELECT * FROM p;
