-- The second job: from the topic that examples/ingest.sql filled.
--
--   cargo run --quiet -- run examples/ingest.sql
--   cargo run --quiet -- run examples/from_topic.sql
--
-- Each partition of the topic is a split with its own watermark. The read is bounded: it ends where the topic ended
-- when the job was started. Without 'scan.bounded.mode' it would run until Ctrl-C and go on there the next time.

CREATE TABLE departures (
  carrier STRING,
  origin STRING,
  dep_delay DOUBLE,
  time_hour TIMESTAMP(3),
  WATERMARK FOR time_hour AS time_hour - INTERVAL '24' HOUR
) WITH ('connector' = 'log', 'topic' = 'departures', 'scan.bounded.mode' = 'latest-offset');

CREATE TABLE punctuality (
  departure_day DATE,
  origin STRING,
  departed BIGINT,
  on_time BIGINT
) WITH ('connector' = 'filesystem', 'path' = 'qanat-out/punctuality', 'format' = 'csv');

CREATE TEMPORARY VIEW daily AS
SELECT window_start, origin, COUNT(*) AS departed, COUNT(*) FILTER (WHERE dep_delay < 15) AS on_time
FROM TABLE(TUMBLE(TABLE departures, DESCRIPTOR(time_hour), INTERVAL '1' DAY))
GROUP BY window_start, window_end, origin;

INSERT OVERWRITE punctuality
SELECT CAST(window_start AS DATE), origin, departed, on_time FROM daily;

-- The days on which fewer than two of three flights of an airport left within 15 minutes of plan.
SELECT CAST(window_start AS DATE) AS departure_day, origin, departed, on_time
FROM daily
WHERE on_time * 3 < departed * 2;
