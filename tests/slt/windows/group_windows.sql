-- Windows in GROUP BY, the older form: with a filter, with keys that are expressions, by rows of a subquery.
--! input t.csv
--| id,k,v,at
--| 1,a,1,2026-01-01 00:00:01
--| 2,a,2,2026-01-01 00:00:04
--| 3,b,4,2026-01-01 00:00:07
--| 4,a,8,2026-01-01 00:00:12
--| 5,A,16,2026-01-01 00:00:14
--| 6,b,32,2026-01-01 00:00:40
--! expect tumbled
--| a | 3 | 2026-01-01 00:00:00 | 2026-01-01 00:00:10
--| b | 4 | 2026-01-01 00:00:00 | 2026-01-01 00:00:10
--| a | 8 | 2026-01-01 00:00:10 | 2026-01-01 00:00:20
--| A | 16 | 2026-01-01 00:00:10 | 2026-01-01 00:00:20
--| b | 32 | 2026-01-01 00:00:40 | 2026-01-01 00:00:50
--! expect hopped
--| 2 | 2026-01-01 00:00:05
--| 3 | 2026-01-01 00:00:10
--| 3 | 2026-01-01 00:00:15
--| 2 | 2026-01-01 00:00:20
--| 1 | 2026-01-01 00:00:45
--| 1 | 2026-01-01 00:00:50
--! expect sessions
--| A | 3 | 2026-01-01 00:00:01 | 2026-01-01 00:00:09
--| A | 24 | 2026-01-01 00:00:12 | 2026-01-01 00:00:19
--| B | 32 | 2026-01-01 00:00:40 | 2026-01-01 00:00:45
--! expect met
--| a | 2 | 2026-01-01 00:00:09.999
CREATE TABLE t (id BIGINT, k STRING, v BIGINT, at TIMESTAMP(3), WATERMARK FOR at AS at - INTERVAL '2' SECOND) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 't.csv');
CREATE TABLE tumbled (k STRING, v BIGINT, s TIMESTAMP(3), e TIMESTAMP(3)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'tumbled');
CREATE TABLE hopped (n BIGINT, e TIMESTAMP(3)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'hopped');
CREATE TABLE sessions (k STRING, v BIGINT, s TIMESTAMP(3), e TIMESTAMP(3)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'sessions');
CREATE TABLE met (k STRING, n BIGINT, t TIMESTAMP(3)) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'met');
EXECUTE STATEMENT SET BEGIN
  INSERT INTO tumbled SELECT x.k, SUM(x.v), TUMBLE_START(x.at, INTERVAL '10' SECOND), TUMBLE_END(x.at, INTERVAL '10' SECOND)
    FROM t AS x GROUP BY x.k, TUMBLE(x.at, INTERVAL '10' SECOND);
  INSERT INTO hopped SELECT COUNT(*), HOP_END(at, INTERVAL '5' SECOND, INTERVAL '10' SECOND)
    FROM (SELECT id, at FROM t) GROUP BY HOP(at, INTERVAL '5' SECOND, INTERVAL '10' SECOND);
  INSERT INTO sessions SELECT UPPER(k), SUM(v), SESSION_START(at, INTERVAL '5' SECOND), SESSION_END(t.at, INTERVAL '5' SECOND)
    FROM t WHERE v <> 4 GROUP BY UPPER(k), SESSION(at, INTERVAL '5' SECOND);
  INSERT INTO met SELECT k, COUNT(*), TUMBLE_ROWTIME(at, INTERVAL '10' SECOND)
    FROM t WHERE v < 5 GROUP BY k, TUMBLE(at, INTERVAL '10' SECOND) HAVING COUNT(*) > 1;
END;
