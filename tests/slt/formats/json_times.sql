-- Times are texts, the same in csv and json. A number stands for none: nobody says in which unit it is. What is none
-- is a dead letter, also where the watermark is computed from it, and the job goes on.
--! input in.json
--| {"i": 1, "t": "2024-01-01 10:00:00.5", "z": "2024-01-01T12:00:00+02:00", "d": "2024-01-31", "h": "10:00", "a": ["2024-01-01 00:00:00"]}
--| {"i": 2, "t": "2024-01-01", "z": "2024-01-01 10:00:00Z", "d": null, "h": null, "a": [null]}
--| {"i": 3, "t": 1704103200000}
--| {"i": 4, "t": 1e30}
--| {"i": 5, "t": "2016-12-31 23:59:60"}
--| {"i": 6, "t": "2024-01-01 10:00:00 Europe/Berlin"}
--| {"i": 7, "t": "2024-01-01 10:00:00", "d": 19000.7}
--| {"i": 8, "t": "2024-01-01 10:00:00", "h": 3600}
--| {"i": 9, "t": "2024-01-01 10:00:00", "a": ["2024-01-01 00:00:00", 5]}
--| {"i": 10, "t": " 2024-01-01 10:00 "}
--! expect out
--| 1 | 2024-01-01 10:00:00.500 | 2024-01-01 10:00:00.000Z | 2024-01-31 | 10:00:00 | 2024-01-01 00:00:00.000
--| 2 | 2024-01-01 00:00:00.000 | 2024-01-01 10:00:00.000Z | NULL | NULL | NULL
--| 10 | 2024-01-01 10:00:00.000 | NULL | NULL | NULL | NULL
--! dead-letters 7
CREATE TABLE t (i INT, t TIMESTAMP(3), z TIMESTAMP_LTZ(3), d DATE, h TIME, a ARRAY<TIMESTAMP(3)>,
  WATERMARK FOR t AS t - INTERVAL '1' SECOND)
WITH ('connector' = 'filesystem', 'path' = 'in.json', 'format' = 'json');
CREATE TABLE o (i INT, t TIMESTAMP(3), z TIMESTAMP_LTZ(3), d DATE, h TIME, a TIMESTAMP(3))
WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');
INSERT INTO o SELECT i, t, z, d, h, a[1] FROM t;
