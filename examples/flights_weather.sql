-- Every flight with the weather of its hour at its airport, January 2013: a window join of two streams.
--
--   cargo run --quiet -- run examples/flights_weather.sql
--
-- Neither file is in the order of time. Flights are up to 18 hours late against each other; the weather is sorted
-- by airport, so that the second airport begins a whole month behind the end of the first.
-- Both have holes written NA, and 52 flights left in an hour that nobody measured: LEFT JOIN keeps them.
-- The joined rows go to Parquet in qanat-out/flights_weather/. On the terminal: what wind does to delays.

CREATE TABLE flights (
  carrier STRING,
  flight INT,
  tailnum STRING,
  origin STRING,
  dest STRING,
  dep_delay DOUBLE,
  time_hour TIMESTAMP(3),
  WATERMARK FOR time_hour AS time_hour - INTERVAL '24' HOUR
) WITH (
  'connector' = 'filesystem',
  'path' = 'examples/data/flights-2013-01.csv.gz',
  'format' = 'csv',
  'csv.null-literal' = 'NA'
);

CREATE TABLE weather (
  origin STRING,
  temp DOUBLE,                    -- Fahrenheit
  wind_speed DOUBLE,              -- miles per hour
  wind_gust DOUBLE,
  precip DOUBLE,                  -- inches
  visib DOUBLE,                   -- miles
  time_hour TIMESTAMP(3),
  WATERMARK FOR time_hour AS time_hour - INTERVAL '31' DAY
) WITH (
  'connector' = 'filesystem',
  'path' = 'examples/data/weather-2013-01.csv.gz',
  'format' = 'csv',
  'csv.null-literal' = 'NA'
);

CREATE TABLE flights_weather (
  departure_hour TIMESTAMP(3),
  carrier STRING,
  flight INT,
  origin STRING,
  dest STRING,
  dep_delay DOUBLE,
  temp DOUBLE,
  wind_speed DOUBLE,
  precip DOUBLE,
  visib DOUBLE
) WITH ('connector' = 'filesystem', 'path' = 'qanat-out/flights_weather', 'format' = 'parquet');

CREATE TEMPORARY VIEW joined AS
SELECT f.window_start AS departure_hour, f.window_time AS rowtime, f.carrier, f.flight, f.origin, f.dest, f.dep_delay,
       w.temp, w.wind_speed, w.precip, w.visib
FROM TABLE(TUMBLE(TABLE flights, DESCRIPTOR(time_hour), INTERVAL '1' HOUR)) AS f
LEFT JOIN TABLE(TUMBLE(TABLE weather, DESCRIPTOR(time_hour), INTERVAL '1' HOUR)) AS w
  ON f.window_start = w.window_start AND f.window_end = w.window_end AND f.origin = w.origin;

INSERT OVERWRITE flights_weather
SELECT departure_hour, carrier, flight, origin, dest, dep_delay, temp, wind_speed, precip, visib
FROM joined;

-- A second window over the first one's rows, by strength of the wind. Windows begin at multiples of their length since
-- 1970; the one of 365 days that began on 21 December 2012 holds the whole month.
SELECT wind, COUNT(*) AS flights, ROUND(AVG(dep_delay), 1) AS mean_delay, COUNT(*) FILTER (WHERE dep_delay IS NULL) AS cancelled
FROM (
  SELECT *, CASE WHEN wind_speed IS NULL THEN 'unknown'
                 WHEN wind_speed < 5 THEN 'calm, below 5 mph'
                 WHEN wind_speed < 15 THEN 'breeze, 5 to 15 mph'
                 WHEN wind_speed < 25 THEN 'wind, 15 to 25 mph'
                 ELSE 'strong wind, from 25 mph' END AS wind
  FROM TABLE(TUMBLE(TABLE joined, DESCRIPTOR(rowtime), INTERVAL '365' DAY))
)
GROUP BY window_start, window_end, wind;
