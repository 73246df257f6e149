-- Delays per airport, hour and airline, out of New York, January 2013.
--
--   cargo run --quiet -- run examples/delays.sql
--
-- The hourly answer goes to files in qanat-out/delays/.
-- What you see on the terminal is a second query over the same read: for each day, the airline and airport
-- that kept its passengers waiting longest.

CREATE TABLE flights (
  carrier STRING,
  flight INT,
  origin STRING,
  dest STRING,
  dep_delay DOUBLE,               -- minutes; NULL for a flight that never left
  time_hour TIMESTAMP(3),         -- hour of the planned departure, UTC
  seen_at AS PROCTIME(),          -- the lookup join below asks for the airline as of now
  -- The file has a day's flights in the order in which they left: a row can stand 18 hours behind another.
  WATERMARK FOR time_hour AS time_hour - INTERVAL '24' HOUR
) WITH (
  'connector' = 'filesystem',
  'path' = 'examples/data/flights-2013-01.csv.gz',
  'format' = 'csv',
  'csv.null-literal' = 'NA'
);

CREATE TABLE airlines (
  carrier STRING,
  name STRING,
  PRIMARY KEY (carrier) NOT ENFORCED
) WITH ('connector' = 'filesystem', 'path' = 'examples/data/airlines.csv', 'format' = 'csv');

CREATE TABLE delays (
  airport STRING,
  departure_hour TIMESTAMP(3),
  airline STRING,
  flights BIGINT,
  cancelled BIGINT,
  mean_delay DOUBLE,
  worst_delay DOUBLE
) WITH ('connector' = 'filesystem', 'path' = 'qanat-out/delays', 'format' = 'csv');

CREATE TEMPORARY VIEW named AS
SELECT f.origin, f.dep_delay, f.time_hour, a.name AS airline
FROM flights AS f
JOIN airlines FOR SYSTEM_TIME AS OF f.seen_at AS a ON f.carrier = a.carrier;

-- OVERWRITE: running the example again replaces what the run before left.
INSERT OVERWRITE delays
SELECT origin, window_start, airline, COUNT(*), COUNT(*) FILTER (WHERE dep_delay IS NULL), AVG(dep_delay), MAX(dep_delay)
FROM TABLE(TUMBLE(TABLE named, DESCRIPTOR(time_hour), INTERVAL '1' HOUR))
GROUP BY window_start, window_end, origin, airline;

SELECT DATE_FORMAT(window_start, 'yyyy-MM-dd') AS departure_day, airline, origin, departed, ROUND(mean_delay, 1) AS mean_delay
FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY mean_delay DESC, airline, origin) AS place
  FROM (
    SELECT window_start, window_end, airline, origin, COUNT(dep_delay) AS departed, AVG(dep_delay) AS mean_delay
    FROM TABLE(TUMBLE(TABLE named, DESCRIPTOR(time_hour), INTERVAL '1' DAY))
    GROUP BY window_start, window_end, airline, origin
    HAVING COUNT(dep_delay) >= 10
  )
)
WHERE place = 1;
